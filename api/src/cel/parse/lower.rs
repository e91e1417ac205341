//! From the parser's tree to ours, with dense ids.

use cel::common::ast::{EntryExpr, Expr as Source, IdedEntryExpr, IdedExpr, LiteralValue, SourceInfo};

use super::Parsed;
use crate::cel::ast::{Call, Entry, Expr, Fold, Kind, ListExpr, Literal, Select, StructExpr, StructField};

struct Lowering<'a> {
    info: &'a SourceInfo,
    offsets: Vec<usize>,
    depth: usize,
    max_depth: usize,
}

/// Errors: the offset of a node that is too deep.
pub(super) fn lower(root: IdedExpr, info: &SourceInfo, max_depth: usize) -> Result<Parsed, usize> {
    let mut lowering = Lowering { info, offsets: Vec::new(), depth: 0, max_depth };
    let root = lowering.expr(root)?;
    Ok(Parsed { root, offsets: lowering.offsets })
}

impl Lowering<'_> {
    fn id(&mut self, source: u64) -> usize {
        let at = self.info.offset_for(source).map_or(0, |(start, _)| start as usize);
        self.offsets.push(at);
        self.offsets.len() - 1
    }

    fn boxed(&mut self, source: IdedExpr) -> Result<Box<Expr>, usize> {
        self.expr(source).map(Box::new)
    }

    fn all(&mut self, sources: Vec<IdedExpr>) -> Result<Vec<Expr>, usize> {
        sources.into_iter().map(|source| self.expr(source)).collect()
    }

    fn expr(&mut self, source: IdedExpr) -> Result<Expr, usize> {
        let id = self.id(source.id);
        if self.depth >= self.max_depth {
            return Err(self.offsets[id]);
        }
        self.depth += 1;
        let kind = self.kind(source.expr, id)?;
        self.depth -= 1;
        Ok(Expr { id, kind })
    }

    fn kind(&mut self, source: Source, id: usize) -> Result<Kind, usize> {
        Ok(match source {
            Source::Unspecified => Kind::Literal(Literal::Null),
            Source::Literal(value) => Kind::Literal(literal(value)),
            Source::Ident(name) => Kind::Ident(name.trim_start_matches('.').into()),
            Source::Select(select) => Kind::Select(Select {
                operand: self.boxed(*select.operand)?,
                field: select.field.into(),
                test: select.test,
            }),
            Source::Call(call) => {
                let target = call.target.map(|target| self.boxed(*target)).transpose()?;
                let args = self.all(call.args)?;
                Kind::Call(Call { name: call.func_name.into(), target, args, function: None, pattern: None })
            }
            Source::List(list) => {
                let items = self.all(list.elements)?;
                let constant = list.optional_indices.is_empty() && items.iter().all(Expr::is_constant);
                Kind::List(ListExpr { items, optional: list.optional_indices, constant })
            }
            Source::Map(map) => {
                let entries = map.entries.into_iter().filter_map(|entry| self.entry(entry));
                Kind::Map(entries.collect::<Result<_, _>>()?)
            }
            Source::Struct(of) => {
                let fields = of.entries.into_iter().filter_map(|entry| self.field(entry, id));
                let fields = fields.collect::<Result<_, _>>()?;
                Kind::Struct(StructExpr { name: of.type_name.trim_start_matches('.').into(), fields })
            }
            Source::Comprehension(fold) => Kind::Fold(Box::new(Fold {
                range: self.expr(fold.iter_range)?,
                var: fold.iter_var.into(),
                var2: fold.iter_var2.map(Into::into),
                accumulator: fold.accu_var.into(),
                init: self.expr(fold.accu_init)?,
                condition: self.expr(fold.loop_cond)?,
                step: self.expr(fold.loop_step)?,
                result: self.expr(fold.result)?,
            })),
        })
    }

    fn entry(&mut self, entry: IdedEntryExpr) -> Option<Result<Entry, usize>> {
        let EntryExpr::MapEntry(entry) = entry.expr else { return None };
        let key = self.expr(entry.key);
        let value = self.expr(entry.value);
        Some(key.and_then(|key| Ok(Entry { key, value: value?, optional: entry.optional })))
    }

    fn field(&mut self, entry: IdedEntryExpr, of: usize) -> Option<Result<StructField, usize>> {
        let EntryExpr::StructField(field) = entry.expr else { return None };
        let id = if entry.id == 0 { of } else { self.id(entry.id) };
        let value = self.expr(field.value);
        Some(value.map(|value| StructField { id, name: field.field.into(), value, optional: field.optional }))
    }
}

fn literal(value: LiteralValue) -> Literal {
    match value {
        LiteralValue::Null => Literal::Null,
        LiteralValue::Boolean(value) => Literal::Bool(*value),
        LiteralValue::Int(value) => Literal::Int(*value),
        LiteralValue::UInt(value) => Literal::Uint(*value),
        LiteralValue::Double(value) => Literal::Double(*value),
        LiteralValue::String(value) => Literal::String((&*value).into()),
        LiteralValue::Bytes(value) => Literal::Bytes((&*value).into()),
    }
}
