//! Compiled policies.

use knarr_api::cel::{Environment, Program, Type};

use super::conditions::Conditions;
use super::definition::{
    AuditAnnotation, Binding, MatchResources, ParamKind, Policy, PolicySpec, Validation,
};
use super::environment::{Scope, environment, variables};
use crate::admission::matching::selector;
use knarr_api::selector::Selector;

/// A policy ready to be asked.
pub struct Compiled {
    pub name: String,
    pub ignores_failure: bool,
    pub is_reinvocable: bool,
    pub param_kind: Option<ParamKind>,
    pub constraints: Result<Constraints, String>,
    pub conditions: Conditions,
    /// In the order they may refer to each other.
    pub variables: Vec<(String, Compilation)>,
    pub validations: Vec<CompiledValidation>,
    pub annotations: Vec<(AuditAnnotation, Compilation)>,
    pub mutations: Vec<CompiledMutation>,
}

/// A program, or why there is none.
pub type Compilation = Result<Program, String>;

pub struct CompiledValidation {
    pub source: Validation,
    pub program: Compilation,
    pub message: Option<Program>,
}

pub enum CompiledMutation {
    Apply(Compilation),
    JsonPatch(Compilation),
}

/// A binding ready to be used.
pub struct CompiledBinding {
    pub name: String,
    pub source: super::definition::BindingSpec,
    pub resources: Option<Result<Constraints, String>>,
}

/// Rules and selectors.
pub struct Constraints {
    pub source: MatchResources,
    pub namespaces: Selector,
    pub objects: Selector,
}

impl Constraints {
    fn compile(source: &MatchResources) -> Result<Self, String> {
        Ok(Self {
            namespaces: selector(&source.namespace_selector)?,
            objects: selector(&source.object_selector)?,
            source: source.clone(),
        })
    }

    pub fn matches_equivalent(&self) -> bool {
        self.source.match_policy.as_deref() != Some("Exact")
    }
}

impl CompiledBinding {
    pub fn new(binding: Binding) -> Self {
        let resources = binding.spec.match_resources.as_ref().map(Constraints::compile);
        Self { name: binding.metadata.name, resources, source: binding.spec }
    }
}

fn compiled(env: &Environment, expression: &str, wanted: &[Type]) -> Compilation {
    let program =
        env.compile(expression).map_err(|error| format!("compilation error: compilation failed: {error}"))?;
    if wanted.is_empty() || wanted.contains(program.output()) || matches!(program.output(), Type::Dyn) {
        return Ok(program);
    }
    let names: Vec<String> = wanted.iter().map(ToString::to_string).collect();
    Err(match names.as_slice() {
        [one] => format!("compilation error: must evaluate to {one}"),
        _ => format!("compilation error: must evaluate to one of [{}]", names.join(" ")),
    })
}

/// Compiles the variables one after the other: each may name those before it.
pub fn compile_variables(
    spec: &PolicySpec,
    scope: Scope,
    object: &Type,
    params: &Type,
) -> (Vec<(String, Compilation)>, Type) {
    let (mut known, mut programs) = (Vec::new(), Vec::new());
    for variable in &spec.variables {
        let env = environment(scope, object, params).with("variables", variables(&known));
        let program = compiled(&env, &variable.expression, &[]);
        let of = program.as_ref().map_or(Type::Dyn, |program| program.output().clone());
        known.push((variable.name.clone(), of));
        programs.push((variable.name.clone(), program));
    }
    (programs, variables(&known))
}

impl Compiled {
    pub fn new(policy: &Policy) -> Self {
        let spec = &policy.spec;
        let scope = Scope {
            params: spec.param_kind.is_some(),
            authorizer: true,
            namespace: true,
            mutation: !spec.mutations.is_empty(),
        };
        let (programs, variables) = compile_variables(spec, scope, &Type::Dyn, &Type::Dyn);
        let env = environment(scope, &Type::Dyn, &Type::Dyn).with("variables", variables.clone());
        let without = Scope { authorizer: false, ..scope };
        let env_without = environment(without, &Type::Dyn, &Type::Dyn).with("variables", variables);
        let validations = spec.validations.iter().map(|source| CompiledValidation {
            program: compiled(&env, &source.expression, &[Type::Bool]),
            message: match source.message_expression.as_str() {
                "" => None,
                expression => compiled(&env_without, expression, &[Type::String]).ok(),
            },
            source: source.clone(),
        });
        let annotations = spec.audit_annotations.iter().map(|source| {
            let program = compiled(&env_without, &source.value_expression, &[Type::String, Type::Null]);
            (source.clone(), program)
        });
        let mutations = spec.mutations.iter().map(|mutation| {
            let expression = |of: &Option<super::definition::Expression>| {
                of.as_ref().map(|of| of.expression.clone()).unwrap_or_default()
            };
            if mutation.patch_type == "JSONPatch" {
                CompiledMutation::JsonPatch(compiled(&env, &expression(&mutation.json_patch), &[]))
            } else {
                CompiledMutation::Apply(compiled(&env, &expression(&mutation.apply_configuration), &[]))
            }
        });
        Self {
            name: policy.metadata.name.clone(),
            ignores_failure: spec.ignores_failure(),
            is_reinvocable: spec.is_reinvocable(),
            param_kind: spec.param_kind.clone(),
            constraints: Constraints::compile(&spec.match_constraints),
            conditions: Conditions::compile_in(&spec.match_conditions, Scope { mutation: false, ..scope }),
            variables: programs,
            validations: validations.collect(),
            annotations: annotations.collect(),
            mutations: mutations.collect(),
        }
    }
}
