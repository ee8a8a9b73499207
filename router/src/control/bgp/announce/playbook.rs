//! Playbooks: named changes to announcements.

use super::decide::{Audience, Of, Subject};
use crate::config::model::{Neighbor, Playbook, PlaybookStep};

/// What playbooks do to a prefix for a neighbour.
#[derive(Default)]
pub(super) struct Played<'a> {
    /// The playbook by which it is withdrawn.
    pub(super) withdrawn_by: Option<&'a str>,
    /// Steps that change what is said of it, each with its playbook's name.
    pub(super) changes: Vec<(&'a str, &'a PlaybookStep)>,
}

impl<'a> Played<'a> {
    /// By these playbooks. Blocked prefixes are not theirs.
    pub(super) fn of(
        playbooks: impl Iterator<Item = &'a Playbook>,
        subject: &Subject<'_>,
        audience: &Audience<'_>,
    ) -> Self {
        let mut played = Self::default();
        for playbook in playbooks {
            let steps = playbook.steps.iter();
            for step in steps.filter(|step| applies(step, subject, audience.config)) {
                if step.withdraw {
                    played.withdrawn_by.get_or_insert(&playbook.name);
                } else {
                    played.changes.push((&playbook.name, step));
                }
            }
        }
        played
    }
}

fn applies(step: &PlaybookStep, subject: &Subject<'_>, neighbor: &Neighbor) -> bool {
    let named = |name: &String| step.neighbors.contains(name);
    let is_to = step.neighbors.is_empty()
        || named(&neighbor.name)
        || neighbor.template.as_ref().is_some_and(named);
    let is_all = step.services.is_empty() && step.prefixes.is_empty();
    let is_of = match subject.of {
        Of::Block => return false,
        Of::Service(service) => step.services.contains(&service.name),
        Of::Aggregate(_) | Of::Path(_) => false,
    };
    is_to && (is_all || is_of || step.prefixes.contains(&subject.prefix))
}
