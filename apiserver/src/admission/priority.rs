//! A pod's priority is its class's, and there is one default class.

use async_trait::async_trait;
use knarr_api::status::Status;
use serde::Deserialize;
use serde_json::Value;

use super::lookup::Lookup;
use super::{Admission, Attributes, Operation};
use crate::objects::Resource;

const CLASSES: Resource<'static> = Resource::new("scheduling.k8s.io", "priorityclasses");
const PREEMPT_LOWER: &str = "PreemptLowerPriority";

pub struct Priority {
    pub lookup: Lookup,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Class {
    metadata: Metadata,
    value: i64,
    #[serde(default)]
    global_default: bool,
    #[serde(default)]
    preemption_policy: Option<String>,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
}

/// What a class gives a pod.
struct Established {
    class: String,
    value: i64,
    policy: Option<String>,
}

impl Priority {
    /// The default class; the lowest of them, should there be several after a race.
    fn default_class(&self) -> Result<Option<Class>, Status> {
        let classes = self.lookup.list::<Class>(CLASSES, None)?;
        Ok(classes.into_iter().filter(|class| class.global_default).min_by_key(|class| class.value))
    }

    async fn establish(&self, attributes: &Attributes, name: &str) -> Result<Established, Status> {
        let class = match name {
            "" => self.default_class()?,
            name => Some(self.lookup.get::<Class>(CLASSES, "", name).await?.ok_or_else(|| {
                attributes.forbidden(format!("no PriorityClass with name {name} was found"))
            })?),
        };
        Ok(match class {
            Some(class) => Established {
                class: class.metadata.name,
                value: class.value,
                policy: class.preemption_policy,
            },
            None => Established { class: String::new(), value: 0, policy: Some(PREEMPT_LOWER.to_owned()) },
        })
    }

    async fn create_pod(&self, attributes: &mut Attributes) -> Result<(), Status> {
        let Some(spec) = attributes.object.as_ref().map(|pod| &pod["spec"]) else { return Ok(()) };
        let name = spec["priorityClassName"].as_str().unwrap_or_default().to_owned();
        let (given, given_policy) =
            (spec["priority"].as_i64(), spec["preemptionPolicy"].as_str().map(str::to_owned));
        let Established { class, value, policy } = self.establish(attributes, &name).await?;
        if let Some(given) = given.filter(|given| *given != value) {
            return Err(attributes.forbidden(format!(
                "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name"
            )));
        }
        if let (Some(given), Some(policy)) = (&given_policy, &policy)
            && given != policy
        {
            return Err(attributes.forbidden(format!(
                "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
            )));
        }
        let Some(spec) = attributes.object.as_mut().and_then(|pod| pod.get_mut("spec")?.as_object_mut())
        else {
            return Ok(());
        };
        if !class.is_empty() {
            spec.insert("priorityClassName".into(), class.into());
        }
        spec.insert("priority".into(), value.into());
        if let Some(policy) = policy {
            spec.insert("preemptionPolicy".into(), policy.into());
        }
        Ok(())
    }
}

/// What was established at creation stays when an update leaves it out.
fn keep(attributes: &mut Attributes) {
    let Some(old) = attributes.old_object.clone() else { return };
    let Some(spec) = attributes.object.as_mut().and_then(|pod| pod.get_mut("spec")?.as_object_mut()) else {
        return;
    };
    for field in ["priority", "preemptionPolicy"] {
        let (old, slot) = (&old["spec"][field], spec.entry(field).or_insert(Value::Null));
        if slot.is_null() && !old.is_null() {
            *slot = old.clone();
        }
        if slot.is_null() {
            spec.remove(field);
        }
    }
}

#[async_trait]
impl Admission for Priority {
    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn admit(&self, attributes: &mut Attributes) -> Result<(), Status> {
        if !attributes.is("", "pods") {
            return Ok(());
        }
        match attributes.operation {
            Operation::Create => self.create_pod(attributes).await,
            _ => {
                keep(attributes);
                Ok(())
            }
        }
    }

    async fn validate(&self, attributes: &Attributes) -> Result<(), Status> {
        let Some(class) = &attributes.object else { return Ok(()) };
        if !attributes.is("scheduling.k8s.io", "priorityclasses") || class["globalDefault"] != true {
            return Ok(());
        }
        let Some(default) = self.default_class()? else { return Ok(()) };
        let other = default.metadata.name;
        if attributes.operation == Operation::Create || class["metadata"]["name"] != *other {
            let why =
                format!("PriorityClass {other} is already marked as default. Only one default can exist");
            return Err(attributes.forbidden(why));
        }
        Ok(())
    }
}
