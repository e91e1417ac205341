//! Telling how a rollout goes, and that it is stuck.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus};
use knarr_client::Action;

use super::{
    conditions::{self, NEW_SET_AVAILABLE, PROGRESSING, REPLICA_FAILURE, TIMED_OUT},
    sets::Sets,
    status::{calculate, has_progressed, is_complete},
    sync::Sync,
};
use crate::error::Error;

impl Sync {
    /// Reports sizes only.
    pub(super) async fn report(&self, deployment: &mut Deployment, sets: &Sets) -> Result<Action, Error> {
        let status = calculate(deployment, sets, self.clock.now())?;
        self.write_if_changed(deployment, status).await?;
        Ok(Action::Done)
    }

    /// Reports sizes and progress, and says when to look again whether it is stuck.
    pub(super) async fn report_rollout(
        &self,
        deployment: &mut Deployment,
        sets: &Sets,
    ) -> Result<Action, Error> {
        let now = self.clock.now();
        let mut status = calculate(deployment, sets, now)?;
        judge_progress(deployment, sets, &mut status, now);
        match set_failure(sets) {
            Some(failure) => conditions::set(&mut status, failure),
            None => conditions::remove(&mut status, REPLICA_FAILURE),
        }
        if self.write_if_changed(deployment, status).await? {
            // The write comes back as a change and this is asked again.
            return Ok(Action::Done);
        }
        Ok(next_check(deployment, now))
    }

    async fn write_if_changed(
        &self,
        deployment: &mut Deployment,
        status: DeploymentStatus,
    ) -> Result<bool, Error> {
        if deployment.status.as_ref() == Some(&status) {
            return Ok(false);
        }
        deployment.status = Some(status);
        self.write_status(deployment).await.map(|()| true)
    }
}

/// The deadline for progress, if there is one.
pub(super) fn deadline(deployment: &Deployment) -> Option<Duration> {
    let seconds = deployment.spec.progress_deadline_seconds?;
    (seconds != i32::MAX).then(|| Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

fn judge_progress(deployment: &Deployment, sets: &Sets, status: &mut DeploymentStatus, now: Timestamp) {
    let Some(deadline) = deadline(deployment) else { return conditions::remove(status, PROGRESSING) };
    let before = deployment.status.clone().unwrap_or_default();
    let current = conditions::get(&before, PROGRESSING);
    if status.replicas == status.updated_replicas && conditions::has_reason(current, NEW_SET_AVAILABLE) {
        return;
    }
    let subject = match &sets.new {
        Some(new) => format!("ReplicaSet {:?}", new.metadata.name.as_deref().unwrap_or_default()),
        None => format!("Deployment {:?}", deployment.metadata.name.as_deref().unwrap_or_default()),
    };
    if is_complete(deployment, status) {
        let text = format!("{subject} has successfully progressed.");
        conditions::set(status, conditions::new(PROGRESSING, "True", NEW_SET_AVAILABLE, text, now));
    } else if has_progressed(&before, status) {
        let text = format!("{subject} is progressing.");
        let mut condition = conditions::new(PROGRESSING, "True", "ReplicaSetUpdated", text, now);
        // Set anew even with the same reason: the time of update is what the deadline counts from.
        if let Some(current) = current.filter(|current| current.status.as_deref() == Some("True")) {
            condition.last_transition_time = current.last_transition_time.clone();
        }
        conditions::remove(status, PROGRESSING);
        conditions::set(status, condition);
    } else if is_stuck(status, deadline, now) {
        let text = format!("{subject} has timed out progressing.");
        conditions::set(status, conditions::new(PROGRESSING, "False", TIMED_OUT, text, now));
    }
}

fn is_stuck(status: &DeploymentStatus, deadline: Duration, now: Timestamp) -> bool {
    let Some(condition) = conditions::get(status, PROGRESSING) else { return false };
    if conditions::has_reason(Some(condition), NEW_SET_AVAILABLE) {
        return false;
    }
    conditions::has_reason(Some(condition), TIMED_OUT) || remaining(condition, deadline, now).is_zero()
}

/// How much of the deadline is left since the condition was last updated.
fn remaining(condition: &DeploymentCondition, deadline: Duration, now: Timestamp) -> Duration {
    let since = condition.last_update_time.as_ref().map_or(now, |time| time.0);
    deadline.saturating_sub(Duration::try_from(now.duration_since(since)).unwrap_or_default())
}

/// When a rollout that does not move has to be looked at again.
fn next_check(deployment: &Deployment, now: Timestamp) -> Action {
    let status = deployment.status.clone().unwrap_or_default();
    let Some((deadline, condition)) = deadline(deployment).zip(conditions::get(&status, PROGRESSING)) else {
        return Action::Done;
    };
    if is_complete(deployment, &status) || conditions::has_reason(Some(condition), TIMED_OUT) {
        return Action::Done;
    }
    match remaining(condition, deadline, now) {
        soon if soon < Duration::from_secs(1) => Action::Retry,
        // Written times have no fractions: a second more and the deadline has surely passed.
        later => Action::After(later + Duration::from_secs(1)),
    }
}

/// The failure to make pods that the new set reports, or else an old one.
fn set_failure(sets: &Sets) -> Option<DeploymentCondition> {
    let failures = sets.new.iter().chain(&sets.old).filter_map(|set| {
        set.status
            .as_ref()?
            .conditions
            .as_deref()?
            .iter()
            .find(|condition| condition.type_.as_deref() == Some(REPLICA_FAILURE))
    });
    let failure = failures.into_iter().next()?.clone();
    Some(DeploymentCondition {
        type_: failure.type_,
        status: failure.status,
        reason: failure.reason,
        message: failure.message,
        last_update_time: failure.last_transition_time.clone(),
        last_transition_time: failure.last_transition_time,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::DeploymentSpec;

    fn deployment(updated_at: i64) -> Deployment {
        let now = Timestamp::from_second(updated_at).unwrap();
        let mut status = DeploymentStatus { updated_replicas: Some(1), ..DeploymentStatus::default() };
        conditions::set(
            &mut status,
            conditions::new(PROGRESSING, "True", "ReplicaSetUpdated", String::new(), now),
        );
        Deployment {
            spec: DeploymentSpec {
                replicas: Some(3),
                progress_deadline_seconds: Some(60),
                ..DeploymentSpec::default()
            },
            status: Some(status),
            ..Deployment::default()
        }
    }

    fn judged(deployment: &Deployment, status: &DeploymentStatus, second: i64) -> String {
        let (mut status, sets) = (status.clone(), Sets { new: None, old: vec![] });
        judge_progress(deployment, &sets, &mut status, Timestamp::from_second(second).unwrap());
        conditions::get(&status, PROGRESSING).unwrap().reason.clone().unwrap()
    }

    #[test]
    fn a_rollout_is_stuck_only_after_its_deadline_without_progress() {
        let deployment = deployment(100);
        let before = deployment.status.clone().unwrap();
        assert_eq!(judged(&deployment, &before, 159), "ReplicaSetUpdated");
        assert_eq!(judged(&deployment, &before, 161), TIMED_OUT);
        let further = DeploymentStatus { updated_replicas: Some(2), ..before.clone() };
        assert_eq!(judged(&deployment, &further, 161), "ReplicaSetUpdated");
        let done = DeploymentStatus {
            replicas: Some(3),
            updated_replicas: Some(3),
            available_replicas: Some(3),
            ..before
        };
        assert_eq!(judged(&deployment, &done, 161), NEW_SET_AVAILABLE);
        assert_eq!(
            next_check(&deployment, Timestamp::from_second(130).unwrap()),
            Action::After(Duration::from_secs(31))
        );
    }
}
