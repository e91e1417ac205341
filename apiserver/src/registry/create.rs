//! Creating an object: names, system metadata, the strategy's questions, admission, and the write.

use knarr_api::names;
use knarr_api::status::{Status, reason};
use knarr_storage::{Expect, Outcome, Revision};
use serde_json::Value;

use super::{Registry, Written, attributes, invalid, metadata, store_failure};
use crate::admission::{Attributes, Operation};
use crate::catalogue::Storage;
use crate::context::RequestContext;
use crate::fields;
use crate::object;
use crate::stored::{self, Stored};

/// How often a generated name that is taken is drawn again.
const NAME_ATTEMPTS: usize = 8;

impl Registry {
    /// Creates an object given in the storage version, decoded and with defaults.
    pub async fn create(
        &self,
        cx: &RequestContext,
        storage: &Storage,
        mut object: Value,
        options: Value,
    ) -> Result<Written, Status> {
        ensure_namespace(&mut object, cx.namespace())?;
        fields::track(cx, storage, None, &mut object);
        let mut attributes = attributes(cx, Operation::Create, object::name(&object), options);
        attributes.object = Some(object);
        self.admit(&mut attributes).await?;
        self.create_admitted(cx, storage, attributes).await
    }

    /// Lets admission complete the object.
    pub async fn admit(&self, attributes: &mut Attributes) -> Result<(), Status> {
        let Some(admission) = self.admission().filter(|admission| admission.handles(attributes.operation))
        else {
            return Ok(());
        };
        admission.admit(attributes).await
    }

    /// Asks admission whether the object may be stored as it is.
    pub async fn check(&self, attributes: &Attributes) -> Result<(), Status> {
        let Some(admission) = self.admission().filter(|admission| admission.handles(attributes.operation))
        else {
            return Ok(());
        };
        admission.validate(attributes).await
    }

    pub(super) async fn create_admitted(
        &self,
        cx: &RequestContext,
        storage: &Storage,
        mut attributes: Attributes,
    ) -> Result<Written, Status> {
        let object = attributes.object.take().unwrap_or_default();
        let generated =
            object::name(&object).is_empty() && !object::meta_str(&object, "generateName").is_empty();
        if !generated {
            return self.create_named(cx, storage, object, &mut attributes).await;
        }
        for _ in 1..NAME_ATTEMPTS {
            match self.create_named(cx, storage, object.clone(), &mut attributes).await {
                Err(status) if status.is(reason::ALREADY_EXISTS) => {}
                done => return done,
            }
        }
        self.create_named(cx, storage, object, &mut attributes).await.map_err(|status| {
            if !status.is(reason::ALREADY_EXISTS) {
                return status;
            }
            let name = status.details.map(|details| details.name).unwrap_or_default();
            Status::generate_name_conflict(&storage.group, &storage.resource, &name)
        })
    }

    async fn create_named(
        &self,
        cx: &RequestContext,
        storage: &Storage,
        mut object: Value,
        attributes: &mut Attributes,
    ) -> Result<Written, Status> {
        self.fill_system_fields(&mut object);
        let strategy = cx.strategy();
        let undo = storage.strategy.begin_create(&strategy, &mut object).await?;
        let done = self.create_begun(cx, storage, object, attributes).await;
        if let (true, Some(undo)) = (done.is_err() || cx.dry_run, undo) {
            undo.await;
        }
        done
    }

    fn fill_system_fields(&self, object: &mut Value) {
        for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion"] {
            object::remove_meta(object, field);
        }
        object::set_meta(object, "creationTimestamp", object::now(&*self.clock));
        object::set_meta(object, "uid", object::new_uid(&*self.random));
        let generate_name = object::meta_str(object, "generateName");
        if object::name(object).is_empty() && !generate_name.is_empty() {
            let name = names::generate_name(generate_name, &*self.random);
            object::set_meta(object, "name", name);
        }
    }

    async fn create_begun(
        &self,
        cx: &RequestContext,
        storage: &Storage,
        mut object: Value,
        attributes: &mut Attributes,
    ) -> Result<Written, Status> {
        let strategy = cx.strategy();
        let rules = &storage.rules;
        if rules.status && !rules.status_on_create {
            object.as_object_mut().map(|fields| fields.remove("status"));
        }
        if rules.generation {
            object::set_meta(&mut object, "generation", 1);
        }
        storage.strategy.prepare_for_create(&strategy, &mut object);
        let name = object::name(&object).to_owned();
        let mut errors = metadata::validate(&object, storage.namespaced, rules.name);
        errors.extend(storage.strategy.validate(&strategy, &object));
        invalid(&storage.group, &storage.kind, &name, errors)?;
        for warning in storage.strategy.warnings(&strategy, &object, None) {
            cx.remarks.warn(warning);
        }
        attributes.name.clone_from(&name);
        attributes.object = Some(object);
        self.check(attributes).await?;
        let object = attributes.object.take().unwrap_or_default();
        self.put_new(cx, storage, object).await
    }

    async fn put_new(
        &self,
        cx: &RequestContext,
        storage: &Storage,
        object: Value,
    ) -> Result<Written, Status> {
        let name = object::name(&object);
        let key = storage.key(object::namespace(&object), name);
        let exists = || Status::already_exists(&storage.group, &storage.resource, name);
        if cx.dry_run {
            return match self.store.get(&key).await.map_err(store_failure)? {
                (Some(_), _) => Err(exists()),
                (None, _) => Ok(Written { object, stored: None }),
            };
        }
        let put = self.store.put(&key, stored::encode(&object), Expect::Absent, storage.rules.durability);
        match put.await.map_err(store_failure)? {
            Outcome::Conflict(_) => Err(exists()),
            Outcome::Committed(kv) => {
                let stored = Stored::new(kv.value, kv.mod_revision.0).map_err(Status::internal)?;
                Ok(Written::new(object, stored))
            }
        }
    }
}

impl Written {
    /// An object that was just stored.
    pub(super) fn new(mut object: Value, stored: Stored) -> Self {
        object::set_meta(&mut object, "resourceVersion", Revision(stored.revision()).to_string());
        Self { object, stored: Some(stored) }
    }
}

/// Gives the object the request's namespace, or says that it names another.
pub fn ensure_namespace(object: &mut Value, namespace: &str) -> Result<(), Status> {
    match (object::namespace(object), namespace) {
        (own, wanted) if own == wanted => Ok(()),
        ("", wanted) => {
            object::set_meta(object, "namespace", wanted);
            Ok(())
        }
        (_, "") => {
            object::remove_meta(object, "namespace");
            Ok(())
        }
        _ => Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        )),
    }
}
