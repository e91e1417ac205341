//! Which types go where, and what the checker's variables stand for.

use std::sync::Arc;

use crate::cel::types::{ListType, Type};

/// What each variable stands for, if that is known.
#[derive(Clone, Default)]
pub(super) struct Bindings(Vec<Option<Type>>);

impl Bindings {
    /// The first of some new variables.
    pub fn fresh(&mut self, count: u32) -> u32 {
        let base = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0.resize(self.0.len() + count as usize, None);
        base
    }

    fn of(&self, id: u32) -> Option<&Type> {
        self.0.get(id as usize)?.as_ref()
    }

    fn bind(&mut self, id: u32, to: Type) {
        if let Some(slot) = self.0.get_mut(id as usize) {
            *slot = Some(to);
        }
    }

    /// Whether `from` can be used as `to`; variables are bound only if it can.
    pub fn assign(&mut self, from: &Type, to: &Type) -> bool {
        let before = self.0.clone();
        let assignable = self.try_assign(from, to);
        if !assignable {
            self.0 = before;
        }
        assignable
    }

    pub fn assign_all(&mut self, from: &[Type], to: &[Type]) -> bool {
        let before = self.0.clone();
        let assignable =
            from.len() == to.len() && from.iter().zip(to).all(|(from, to)| self.try_assign(from, to));
        if !assignable {
            self.0 = before;
        }
        assignable
    }

    fn try_assign(&mut self, a: &Type, b: &Type) -> bool {
        if let Type::Var(id) = b {
            let (valid, known) = self.substitutes(a, *id);
            if valid || known {
                return valid;
            }
        }
        if let Type::Var(id) = a {
            return self.substitutes(b, *id).0;
        }
        if a.is_dyn_or_error() || b.is_dyn_or_error() {
            return true;
        }
        match (a, b) {
            (Type::Null, other) | (other, Type::Null) => is_nullable(other),
            (Type::List(a), Type::List(b)) => self.try_assign(&a.item, &b.item),
            (Type::Map(a), Type::Map(b)) => self.try_assign(&a.0, &b.0) && self.try_assign(&a.1, &b.1),
            (Type::Optional(a), Type::Optional(b)) => self.try_assign(a, b),
            (Type::Type(_), Type::Type(_)) => true,
            (a, b) => a == b,
        }
    }

    /// Whether a type can be what a variable stands for, and whether it stands for something already.
    fn substitutes(&mut self, of: &Type, id: u32) -> (bool, bool) {
        if *of == Type::Var(id) {
            return (true, true);
        }
        if let Some(known) = self.of(id).cloned() {
            if *of == known {
                return (true, true);
            }
            if self.try_assign(of, &known) {
                let general = most_general(of.clone(), known);
                if !self.occurs(id, &general) {
                    self.bind(id, general);
                }
                return (true, true);
            }
            return (false, true);
        }
        if self.occurs(id, of) {
            return (false, false);
        }
        self.bind(id, of.clone());
        (true, false)
    }

    /// Whether a variable is part of a type.
    fn occurs(&self, id: u32, within: &Type) -> bool {
        match within {
            Type::Var(other) if *other == id => true,
            Type::Var(other) => self.of(*other).is_some_and(|of| self.occurs(id, of)),
            Type::List(list) => self.occurs(id, &list.item),
            Type::Map(map) => self.occurs(id, &map.0) || self.occurs(id, &map.1),
            Type::Optional(of) | Type::Type(Some(of)) => self.occurs(id, of),
            _ => false,
        }
    }

    /// The type with what is known of its variables.
    pub fn substitute(&self, of: &Type) -> Type {
        self.replace(of, &|id| match self.of(id) {
            Some(known) => self.substitute(known),
            None => Type::Var(id),
        })
    }

    /// As [`Self::substitute`], with anything for what is not known.
    pub fn resolved(&self, of: &Type) -> Type {
        self.replace(of, &|id| self.of(id).map_or(Type::Dyn, |known| self.resolved(known)))
    }

    fn replace(&self, of: &Type, with: &dyn Fn(u32) -> Type) -> Type {
        replace(of, with)
    }
}

fn replace(of: &Type, with: &dyn Fn(u32) -> Type) -> Type {
    match of {
        Type::Var(id) => with(*id),
        Type::List(list) => Type::List(Arc::new(ListType {
            item: replace(&list.item, with),
            kind: list.kind,
            keys: list.keys.clone(),
        })),
        Type::Map(map) => Type::map(replace(&map.0, with), replace(&map.1, with)),
        Type::Optional(of) => Type::optional(replace(of, with)),
        Type::Type(Some(of)) => Type::Type(Some(Arc::new(replace(of, with)))),
        other => other.clone(),
    }
}

/// A signature's type with the checker's variables in place of its own.
pub(super) fn rename(of: &Type, base: u32) -> Type {
    replace(of, &|id| Type::Var(base + id))
}

fn is_nullable(of: &Type) -> bool {
    matches!(
        of,
        Type::Null | Type::Object(_) | Type::Opaque(_) | Type::Optional(_) | Type::Duration | Type::Timestamp
    )
}

/// The more general of two types that can be used for each other.
pub(super) fn most_general(a: Type, b: Type) -> Type {
    if is_less_specific(&a, &b) { a } else { b }
}

fn is_less_specific(a: &Type, b: &Type) -> bool {
    if matches!(a, Type::Dyn | Type::Var(_)) {
        return true;
    }
    if matches!(b, Type::Dyn | Type::Var(_)) {
        return false;
    }
    match (a, b) {
        (Type::List(a), Type::List(b)) => is_less_specific(&a.item, &b.item),
        (Type::Map(a), Type::Map(b)) => is_less_specific(&a.0, &b.0) && is_less_specific(&a.1, &b.1),
        (Type::Optional(a), Type::Optional(b)) => is_less_specific(a, b),
        (Type::Type(_), Type::Type(_)) => true,
        (a, b) => a == b,
    }
}
