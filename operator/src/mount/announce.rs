//! Announce: what of a status change is worth an event. Pure.
//!
//! Events complement conditions (Kubernetes API conventions, "Events"): one for a condition that turned,
//! none for what stays as it is, however often it is looked at. What turns bad warns, and what turns
//! good after that says so; the first good news of a new mount is told for acceptance alone. A sidecar that
//! was restarted is told of, too: it may be back before any condition turns.

use std::collections::BTreeSet;

use kube::runtime::events::{Event, EventType};
use remotemount_crds::RemoteMountStatus;
use remotemount_crds::condition::{ConditionType, Reason};
use remotemount_crds::names::CONTAINER;

/// Conditions whose turns are told, each with the action that its reason comes of.
const TOLD: [(ConditionType, &str); 5] = [
    (ConditionType::Accepted, "Validate"),
    (ConditionType::ConfigPublished, "Publish"),
    (ConditionType::RemoteReachable, "Probe"),
    (ConditionType::SidecarsReady, "Serve"),
    (ConditionType::DeletesHealthy, "Delete"),
];
/// The reason of the event of [`restarted`]; no condition has it.
const RESTARTED: &str = "SidecarRestarted";
/// So many pods are named in it.
const PODS: usize = 3;
/// The longest note that the API takes, in bytes.
const NOTE: usize = 1024;

/// The events of going from `old` to `new`.
#[must_use]
pub fn events(old: &RemoteMountStatus, new: &RemoteMountStatus) -> Vec<Event> {
    let mut told: Vec<Event> = Vec::new();
    for event in TOLD.iter().filter_map(|(condition, action)| turned(old, new, *condition, action)) {
        // A mount that is not accepted is not published for the same reason: that is one piece of news.
        if told.iter().all(|earlier| earlier.reason != event.reason) {
            told.push(event);
        }
    }
    told
}

/// The event of sidecars that were restarted, in those pods.
#[must_use]
pub fn restarted(pods: &BTreeSet<String>) -> Option<Event> {
    let first = pods.first()?;
    let named: Vec<&str> = pods.iter().take(PODS).map(String::as_str).collect();
    let more = pods.len().checked_sub(PODS + 1).map(|more| format!(" and {} more", more + 1)).unwrap_or_default();
    let note = format!(
        "restarted: the sidecar of pod {}{more}; kubectl logs {first} -c {CONTAINER} --previous says what it said last",
        named.join(", ")
    );
    Some(Event {
        type_: EventType::Warning,
        reason: RESTARTED.to_owned(),
        note: Some(cut(&note)),
        action: "Serve".to_owned(),
        secondary: None,
    })
}

fn turned(old: &RemoteMountStatus, new: &RemoteMountStatus, condition: ConditionType, action: &str) -> Option<Event> {
    let find =
        |status: &RemoteMountStatus| status.conditions.iter().find(|found| found.type_ == condition.as_str()).cloned();
    let (before, after) = (find(old), find(new)?);
    let was = before.as_ref().map(|before| (before.status.as_str(), before.reason.as_str()));
    let bad = after.status == "False";
    // That sidecars are outdated or not there yet is how every change and every start begins.
    let passing = [Reason::SidecarsOutdated, Reason::SidecarsNotReady].map(Reason::as_str);
    let worth = match was {
        _ if passing.contains(&after.reason.as_str()) => false,
        Some((status, reason)) if bad => (status, reason) != ("False", after.reason.as_str()),
        None if bad => true,
        Some((status, reason)) => status == "False" && after.status == "True" && !passing.contains(&reason),
        None => condition == ConditionType::Accepted && after.status == "True",
    };
    worth.then(|| Event {
        type_: if bad { EventType::Warning } else { EventType::Normal },
        reason: after.reason.clone(),
        note: Some(cut(&after.message)),
        action: action.to_owned(),
        secondary: None,
    })
}

fn cut(message: &str) -> String {
    message.get(..message.floor_char_boundary(NOTE)).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;
    use remotemount_crds::condition::{Observation, merge};

    use super::*;

    fn status(conditions: &[(ConditionType, Option<bool>, Reason)]) -> RemoteMountStatus {
        let mut status = RemoteMountStatus::default();
        for (condition, holds, reason) in conditions {
            let message = "x".repeat(3000);
            let seen = Observation { condition: *condition, status: *holds, reason: *reason, message };
            merge(&mut status.conditions, &seen, 1, &Time(Timestamp::UNIX_EPOCH));
        }
        status
    }

    fn told(old: &RemoteMountStatus, new: &RemoteMountStatus) -> Vec<String> {
        events(old, new).into_iter().map(|event| event.reason).collect()
    }

    #[test]
    fn restarts_name_some_pods_and_count_the_others() {
        let pods = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        assert!(restarted(&pods(&[])).is_none());
        let note = |names: &[&str]| restarted(&pods(names)).unwrap().note.unwrap();
        assert!(note(&["b", "a"]).starts_with("restarted: the sidecar of pod a, b; kubectl logs a -c remotemount "));
        assert!(note(&["a", "b", "c"]).starts_with("restarted: the sidecar of pod a, b, c; "));
        assert!(note(&["a", "b", "c", "d", "e"]).starts_with("restarted: the sidecar of pod a, b, c and 2 more; "));
    }

    #[test]
    fn turns_are_told_once() {
        use ConditionType::{Accepted, RemoteReachable, SidecarsReady};
        let new = RemoteMountStatus::default();
        let good = status(&[(Accepted, Some(true), Reason::Valid), (RemoteReachable, None, Reason::Unknown)]);
        assert_eq!(told(&new, &good), ["Valid"]);
        assert_eq!(told(&good, &good), [""; 0], "nothing turned");
        let bad =
            status(&[(Accepted, Some(true), Reason::Valid), (RemoteReachable, Some(false), Reason::AccessDenied)]);
        assert_eq!(told(&good, &bad), ["AccessDenied"]);
        assert_eq!(told(&bad, &bad), [""; 0]);
        let other = status(&[(RemoteReachable, Some(false), Reason::TimedOut)]);
        assert_eq!(told(&bad, &other), ["TimedOut"], "another reason is news");
        let well = status(&[(RemoteReachable, Some(true), Reason::Reachable)]);
        assert_eq!(told(&other, &well), ["Reachable"]);
        let taken = |condition| (condition, Some(false), Reason::PathConflict);
        let refused = status(&[taken(Accepted), taken(ConditionType::ConfigPublished)]);
        assert_eq!(told(&new, &refused), ["PathConflict"], "what follows from it is no news");
        let outdated = status(&[(SidecarsReady, Some(false), Reason::SidecarsOutdated)]);
        let current = status(&[(SidecarsReady, Some(true), Reason::Available)]);
        assert_eq!([told(&current, &outdated), told(&outdated, &current)].concat(), [""; 0], "every edit does that");
        assert!(events(&good, &bad)[0].note.as_ref().unwrap().len() <= NOTE);
    }
}
