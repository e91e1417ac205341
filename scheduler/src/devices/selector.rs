//! Selectors of devices: expressions about `device`, compiled once and kept.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::{Arc, LazyLock};

use k8s_openapi::api::resource::v1::{Device, DeviceAttribute, DeviceSelector};
use knarr_api::cel::{Activation, Entry, Environment, Map, Opaque, Program, Type, Value};

/// The most that one evaluation may cost.
const MAX_COST: u64 = 1_000_000;
/// More expressions than these are not kept; all are forgotten then.
const CAPACITY: usize = 512;

static ENVIRONMENT: LazyLock<Environment> = LazyLock::new(|| {
    let by_domain = |of: Type| Type::map(Type::String, Type::map(Type::String, of));
    let device = Type::object(
        "kubernetes.DRADevice",
        [
            ("driver", Type::String),
            ("allowMultipleAllocations", Type::Bool),
            ("attributes", by_domain(Type::Dyn)),
            ("capacity", by_domain(Type::Opaque("kubernetes.Quantity"))),
        ],
    );
    Environment::new().with("device", device)
});

type Compiled = Result<Program, String>;

#[derive(Default)]
pub struct Selectors(HashMap<Box<str>, Arc<Compiled>>);

impl std::fmt::Debug for Selectors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Selectors {
    fn compiled(&mut self, expression: &str) -> Arc<Compiled> {
        if let Some(compiled) = self.0.get(expression) {
            return compiled.clone();
        }
        if self.0.len() >= CAPACITY {
            self.0.clear();
        }
        let compiled: Arc<Compiled> = Arc::new(compile(expression));
        self.0.insert(expression.into(), compiled.clone());
        compiled
    }

    /// Whether all selectors match the device.
    ///
    /// # Errors
    /// Which selector is at fault, and for what.
    pub fn all_match(
        &mut self,
        selectors: &[DeviceSelector],
        driver: &str,
        device: &Device,
    ) -> Result<bool, String> {
        for (index, selector) in selectors.iter().enumerate() {
            let expression = selector.cel.as_ref().map(|cel| cel.expression.as_str()).unwrap_or_default();
            let compiled = self.compiled(expression);
            let program = match &*compiled {
                Ok(program) => program,
                Err(error) => return Err(format!("selector #{index}: CEL compile error: {error}")),
            };
            match matches(program, driver, device) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(error) => return Err(format!("selector #{index}: CEL runtime error: {error}")),
            }
        }
        Ok(true)
    }
}

fn compile(expression: &str) -> Compiled {
    let program = ENVIRONMENT.compile(expression).map_err(|error| format!("compilation failed: {error}"))?;
    match program.output() {
        Type::Bool | Type::Dyn => Ok(program),
        other => Err(format!("must evaluate to bool or the unknown type, not {other}")),
    }
}

fn matches(program: &Program, driver: &str, device: &Device) -> Result<bool, String> {
    let mut activation = Activation::new();
    activation.set("device", value_of(driver, device)?);
    match program.evaluate(&activation, MAX_COST).result {
        Ok(Value::Bool(matches)) => Ok(matches),
        Ok(_) => Err("CEL result could not be converted to bool".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn value_of<'a>(driver: &'a str, device: &'a Device) -> Result<Value<'a>, String> {
    let mut attributes = ByDomain::default();
    for (name, attribute) in device.attributes.iter().flatten() {
        let value = attribute_value(attribute).map_err(|error| format!("attribute {name}: {error}"))?;
        attributes.add(driver, name, value);
    }
    let mut capacity = ByDomain::default();
    for (name, of) in device.capacity.iter().flatten() {
        let amount = of.value.0.parse().map_err(|error| format!("capacity {name}: {error}"))?;
        capacity.add(driver, name, Opaque::Quantity(amount).into());
    }
    Ok(map(vec![
        ("driver".into(), driver.into()),
        ("allowMultipleAllocations".into(), device.allow_multiple_allocations.unwrap_or(false).into()),
        ("attributes".into(), attributes.into_value()),
        ("capacity".into(), capacity.into_value()),
    ]))
}

fn map(entries: Vec<Entry<'_>>) -> Value<'_> {
    Value::Map(Map::Made(Rc::new(entries)))
}

fn attribute_value(attribute: &DeviceAttribute) -> Result<Value<'_>, String> {
    match attribute {
        DeviceAttribute { int: Some(value), .. } => Ok((*value).into()),
        DeviceAttribute { bool: Some(value), .. } => Ok((*value).into()),
        DeviceAttribute { string: Some(value), .. } => Ok(value.as_str().into()),
        DeviceAttribute { version: Some(value), .. } => {
            let version =
                Opaque::semver(value).map_err(|error| format!("parse semantic version: {error}"))?;
            Ok(version.into())
        }
        _ => Err("unsupported attribute value".to_owned()),
    }
}

/// Values by domain and id; names without a domain are of the driver's.
#[derive(Default)]
struct ByDomain<'a>(BTreeMap<&'a str, Vec<Entry<'a>>>);

impl<'a> ByDomain<'a> {
    fn add(&mut self, driver: &'a str, name: &'a str, value: Value<'a>) {
        let (domain, id) = name.split_once('/').unwrap_or((driver, name));
        self.0.entry(domain).or_default().push((id.into(), value));
    }

    /// Domains that are not there are empty, so that expressions need not ask for them first.
    fn into_value(self) -> Value<'a> {
        let entries = self.0.into_iter().map(|(domain, entries)| (domain.into(), map(entries)));
        Value::Map(Map::Defaulting(Rc::new((entries.collect(), map(Vec::new())))))
    }
}
