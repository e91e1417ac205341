//! What calls cost, per overload.

use super::{Coster, LIST_CREATE, NOTHING, Node, ONE, REGEX_LENGTH, Range, STRING_TRAVERSAL, STRUCT_CREATE};
use crate::cel::ast::{Expr, Kind, Literal};
use crate::cel::types::Type;

/// Cost without the arguments, and the size of the result if it is known.
type Estimate = (Range, Option<Range>);

impl<'e> Coster<'e> {
    /// The cost of a call with its arguments, and the size of its result.
    pub(super) fn overload(
        &mut self,
        expr: &Expr,
        function: &str,
        overload: &str,
        target: Option<&Node<'e>>,
        args: &[Node<'e>],
        costs: &[Range],
    ) -> Estimate {
        let sum = costs.iter().fold(NOTHING, |sum, cost| sum.add(*cost));
        let estimate = self
            .extension(overload, target, args)
            .or_else(|| self.kubernetes(function, overload, target, args))
            .or_else(|| self.standard(overload, target, args));
        if let Some((cost, size)) = estimate {
            return (cost.add(sum), size);
        }
        match (overload, args) {
            ("logical_or" | "logical_and", [_, _]) => {
                (Range { min: costs[0].min, max: costs[0].add(costs[1]).max }, None)
            }
            ("conditional", [_, yes, no]) => {
                let size = self.size_of(yes).union(self.size_of(no));
                self.join_entries(expr, yes, no);
                (costs[0].add(costs[1].union(costs[2])), Some(size))
            }
            ("add_list", [a, b]) => {
                let size = self.size_of(a).add(self.size_of(b));
                self.join_entries(expr, a, b);
                (sum.add(ONE), Some(size))
            }
            _ => (sum.add(ONE), None),
        }
    }

    /// A collection made of two others has entries as either has.
    fn join_entries(&mut self, expr: &Expr, a: &Node<'e>, b: &Node<'e>) {
        let entries = |node: &Node<'e>| node.expr.and_then(|expr| self.entry_size(expr));
        if let (Some(a), Some(b)) = (entries(a), entries(b)) {
            let joined = super::EntrySize {
                is_list: a.is_list,
                key: a.key.union(b.key),
                value: a.value.union(b.value),
            };
            self.entries.insert(expr.id, joined);
        }
    }

    /// The language's own functions that take more than constant time.
    fn standard(&self, overload: &str, target: Option<&Node<'e>>, args: &[Node<'e>]) -> Option<Estimate> {
        let size = |node: &Node<'e>| self.size_of(node);
        Some(match (overload, target, args) {
            ("string_format", Some(target), _) => (size(target).scaled(STRING_TRAVERSAL), None),
            ("string_to_bytes", _, [text]) => {
                let text = size(text);
                let made = Range { min: text.min, max: text.max.saturating_mul(4) };
                (text.scaled(STRING_TRAVERSAL), Some(made))
            }
            ("bytes_to_string", _, [bytes]) => {
                let bytes = size(bytes);
                (bytes.scaled(STRING_TRAVERSAL), Some(Range { min: bytes.min / 4, max: bytes.max }))
            }
            ("strings_quote", _, [text]) => {
                let text = size(text);
                let made = Range {
                    min: text.min.saturating_add(2),
                    max: text.max.saturating_mul(2).saturating_add(2),
                };
                (text.scaled(STRING_TRAVERSAL), Some(made))
            }
            ("starts_with_string" | "ends_with_string", _, [part]) => {
                (size(part).scaled(STRING_TRAVERSAL), None)
            }
            ("in_list", _, [_, list]) => (size(list), None),
            ("matches_string", Some(text), [pattern]) => (self.regex(text, pattern), None),
            ("contains_string", Some(text), [part]) => {
                (size(text).scaled(STRING_TRAVERSAL).times(size(part).scaled(STRING_TRAVERSAL)), None)
            }
            ("add_string" | "add_bytes", _, [a, b]) => {
                let made = size(a).add(size(b));
                (made.scaled(STRING_TRAVERSAL), Some(made))
            }
            (
                "less_string"
                | "greater_string"
                | "less_equals_string"
                | "greater_equals_string"
                | "less_bytes"
                | "greater_bytes"
                | "less_equals_bytes"
                | "greater_equals_bytes"
                | "equals"
                | "not_equals",
                _,
                [a, b],
            ) => {
                let max = size(a).max.min(size(b).max);
                (Range { min: u64::from(max > 0), max }.scaled(STRING_TRAVERSAL), None)
            }
            _ => return None,
        })
    }

    fn regex(&self, text: &Node<'e>, pattern: &Node<'e>) -> Range {
        let text = self.size_of(text).add(ONE).scaled(STRING_TRAVERSAL);
        text.times(self.size_of(pattern).scaled(REGEX_LENGTH))
    }

    /// Functions of cel-go's extensions.
    fn extension(&self, overload: &str, target: Option<&Node<'e>>, args: &[Node<'e>]) -> Option<Estimate> {
        let size = |node: &Node<'e>| self.size_of(node);
        let list = |factor: f64, size: Range| {
            Some((size.scaled(factor).add(Range::fixed(1 + LIST_CREATE)), Some(size)))
        };
        match (overload, target, args) {
            ("list_sets_contains_list" | "list_sets_intersects_list", _, [a, b]) => {
                Some((size(a).times(size(b)).add(ONE), None))
            }
            ("list_sets_equivalent_list", _, [a, b]) => {
                Some((size(a).times(size(b)).scaled(2.0).add(ONE), None))
            }
            ("list_slice", Some(target), [start, end]) => {
                let (start, end) = (written_number(start, 0), written_number(end, size(target).max));
                list(1.0, Range::fixed(end.saturating_sub(start)))
            }
            ("lists_range", _, [end]) => list(1.0, Range::fixed(written_number(end, u64::MAX))),
            ("list_reverse", Some(target), []) => list(1.0, size(target)),
            #[expect(clippy::cast_precision_loss, reason = "depths are small")]
            ("list_flatten" | "list_flatten_int", Some(target), args) => {
                let depth = args.first().map_or(1, |depth| written_number(depth, u64::MAX));
                list(depth as f64, size(target))
            }
            ("list_distinct", Some(target), []) => list(2.0, size(target).times(size(target))),
            (id, Some(target), []) if id.ends_with("_sort") => self.sort(target, id),
            (id, Some(_), [keys]) if id.ends_with("_sortByAssociatedKeys") => self.sort(keys, id),
            _ => None,
        }
    }

    fn sort(&self, keys: &Node<'e>, overload: &str) -> Option<Estimate> {
        let text = overload.starts_with("list_string") || overload.starts_with("list_bytes");
        let factor = if text { 2.0 + STRING_TRAVERSAL } else { 2.0 };
        let size = self.size_of(keys).times(self.size_of(keys));
        Some((size.scaled(factor).add(Range::fixed(1 + LIST_CREATE)), Some(size)))
    }

    /// Functions of Kubernetes' libraries, by name as upstream does it.
    fn kubernetes(
        &self,
        function: &str,
        overload: &str,
        target: Option<&Node<'e>>,
        args: &[Node<'e>],
    ) -> Option<Estimate> {
        let size = |node: &Node<'e>| self.size_of(node);
        let traversal = |node: &Node<'e>| size(node).scaled(STRING_TRAVERSAL);
        let plain = |cost: Range| Some((cost, None));
        match (function, target, args) {
            ("check", ..) => plain(Range::fixed(350_000)),
            (
                "serviceAccount"
                | "path"
                | "group"
                | "resource"
                | "subresource"
                | "namespace"
                | "name"
                | "allowed"
                | "reason"
                | "error"
                | "errored"
                | "masked"
                | "prefixLength"
                | "family"
                | "isUnspecified"
                | "isLoopback"
                | "isLinkLocalMulticast"
                | "isLinkLocalUnicast"
                | "isGlobalUnicast"
                | "format.named"
                | "sign"
                | "asInteger"
                | "isInteger"
                | "asApproximateFloat"
                | "isGreaterThan"
                | "isLessThan"
                | "compareTo"
                | "add"
                | "sub"
                | "major"
                | "minor"
                | "patch"
                | "getScheme"
                | "getHostname"
                | "getHost"
                | "getPort"
                | "getEscapedPath"
                | "getQuery",
                ..,
            ) => plain(ONE),
            ("fieldSelector" | "labelSelector", _, [text]) => plain(selector(size(text))),
            ("isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf", Some(target), _) => {
                let Some(item) = self.item(target) else { return plain(traversal(target)) };
                let text = matches!(item.of, Type::String | Type::Bytes);
                let each = if text { ONE.add(traversal(&item)) } else { ONE };
                plain(size(target).times(each))
            }
            ("url" | "jsonpatch.escapeKey", _, [text]) => Some((traversal(text), Some(size(text)))),
            ("lowerAscii" | "upperAscii" | "substring" | "trim", Some(target), _) => {
                Some((traversal(target), Some(size(target))))
            }
            ("replace", Some(target), [from, to, ..]) => {
                let made = replaced(size(target), size(from), size(to));
                Some((size(target).scaled(2.0 * STRING_TRAVERSAL), Some(made)))
            }
            ("split", Some(target), args) => {
                let max =
                    args.get(1).map_or(size(target).max, |limit| written_number(limit, size(target).max));
                Some((size(target).scaled(2.0 * STRING_TRAVERSAL), Some(Range { min: 0, max })))
            }
            ("join", Some(target), args) => {
                let count = size(target);
                let mut made = self.item(target).map_or(NOTHING, |item| count.times(size(&item)));
                if let [separator] = args {
                    let between =
                        Range { min: count.min.saturating_sub(1), max: count.max.saturating_sub(1) };
                    made = made.add(size(separator).times(between));
                }
                Some((made.scaled(STRING_TRAVERSAL), Some(made)))
            }
            ("find" | "findAll", Some(target), [pattern, ..]) => {
                Some((self.regex(target, pattern), Some(Range { min: 0, max: size(target).max })))
            }
            ("ip", ..) if overload == "cidr_ip" => plain(ONE),
            (
                "cidr" | "isIP" | "isCIDR" | "ip" | "quantity" | "isQuantity" | "semver" | "isSemver",
                _,
                [text, ..],
            ) => plain(traversal(text)),
            ("ip.isCanonical", _, [text]) => plain(size(text).scaled(2.0 * STRING_TRAVERSAL)),
            ("containsIP" | "containsCIDR", _, [other]) => {
                let address = Range { min: 4, max: 16 };
                let mut cost = address.add(address).scaled(STRING_TRAVERSAL);
                if function == "containsCIDR" {
                    cost = cost.add(address.scaled(STRING_TRAVERSAL)).add(ONE);
                }
                if overload.ends_with("_string") {
                    cost = cost.add(traversal(other));
                }
                plain(cost)
            }
            ("validate", _, [text]) => plain(traversal(text).scaled(128.0 * REGEX_LENGTH)),
            ("_==_", _, [a, b]) if a.of == b.of => match &a.of {
                Type::Opaque("kubernetes.NamedFormat") => {
                    plain(Range { min: 1, max: 64 }.scaled(STRING_TRAVERSAL))
                }
                Type::Opaque("kubernetes.URL") => {
                    plain(Range { min: 1, max: b.size.map_or(1, |size| size.max) }.scaled(STRING_TRAVERSAL))
                }
                Type::Opaque(_) => plain(ONE),
                _ => None,
            },
            _ => None,
        }
    }
}

/// Parsing a selector makes a list of requirements, each of at least two characters.
pub(in crate::cel) fn selector(length: Range) -> Range {
    #[expect(clippy::cast_precision_loss, reason = "they are small constants")]
    let requirement = (LIST_CREATE + STRUCT_CREATE) as f64;
    Range::fixed(LIST_CREATE).add(length.scaled(STRING_TRAVERSAL)).add(length.scaled(0.5).scaled(requirement))
}

/// The size of a text after replacing.
fn replaced(text: Range, from: Range, to: Range) -> Range {
    let (max_count, max_kept) = if from.min == 0 {
        (text.max.saturating_add(1), text.max)
    } else if to.max <= from.min {
        (0, text.max)
    } else {
        (text.max.div_ceil(from.min), 0)
    };
    let (min_count, min_kept) = if from.max == 0 {
        (text.min.saturating_add(1), text.min)
    } else if from.max <= to.min {
        (0, text.min)
    } else {
        (text.min.div_ceil(from.max), 0)
    };
    let count = Range { min: min_count, max: max_count };
    count.times(to).add(Range { min: min_kept, max: max_kept })
}

/// A number that stands in the expression.
fn written_number(node: &Node<'_>, default: u64) -> u64 {
    match node.expr.map(|expr| &expr.kind) {
        Some(Kind::Literal(Literal::Int(value))) => u64::try_from(*value).unwrap_or(0),
        _ => default,
    }
}
