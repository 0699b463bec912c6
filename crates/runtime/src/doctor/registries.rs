//! Asking registries, each beside the others, and none for long.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use setpoint_model::doctor::{Answer, Finding, registry};

use super::{Patient, images};
use crate::facts::image_source;
use crate::image::{Credentials, ImageError, ImageStore, Limits};

/// How long a registry may take to be reached, and then to answer.
const CONNECT: Duration = Duration::from_millis(1500);
const ANSWER: Duration = Duration::from_secs(2);
/// How long is waited for all of them, helpers of logins and the lookup of names with them.
const ALL: Duration = Duration::from_secs(6);

/// What a registry is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// An image, or a release.
    reference: String,
    /// Whether it is not here.
    is_missing: bool,
}

impl Patient<'_> {
    /// What registries are to be asked for: one thing of each repository that something is declared to come from.
    #[must_use]
    pub fn registries(&self) -> Vec<Asked> {
        let Some(project) = self.project else { return Vec::new() };
        let mut asked: BTreeMap<String, Asked> = BTreeMap::new();
        for env in project.manifest.envs.values() {
            let Some(reference) = images::of_registry(env) else { continue };
            let Ok(found) = self.engine.image(&image_source(reference, self.root)) else { continue };
            let Ok((_, in_full)) = Credentials::registry_of(reference) else { continue };
            let repository = in_full.split('@').next().unwrap_or(&in_full).to_owned();
            let one = Asked { reference: reference.to_owned(), is_missing: found.is_none() };
            asked.entry(repository).and_modify(|known| known.is_missing |= one.is_missing).or_insert(one);
        }
        if let (Some(from), Some(bundle)) = (&project.from, &project.bundle) {
            let reference = format!("{from}:{}", bundle.version);
            asked.insert(reference.clone(), Asked { reference, is_missing: false });
        }
        asked.into_values().collect()
    }
}

/// Asks registries, all at once. Those that have not answered in time are told so; nobody waits for them.
#[must_use]
pub fn ask(state: &Path, mut asked: Vec<Asked>, variables: &BTreeMap<String, String>) -> Vec<Finding> {
    let (send, answers) = mpsc::channel();
    for one in &asked {
        let (send, one) = (send.clone(), one.clone());
        let (state, variables): (PathBuf, BTreeMap<String, String>) = (state.to_owned(), variables.clone());
        std::thread::spawn(move || {
            let answer = answer(&state, &one.reference, &variables);
            // Whoever asked may have gone.
            let _ = send.send((one.reference, answer));
        });
    }
    drop(send);
    let until = Instant::now() + ALL;
    let mut told = BTreeMap::new();
    while let Ok((reference, answer)) = answers.recv_timeout(until.saturating_duration_since(Instant::now()))
    {
        told.insert(reference, answer);
    }
    // Of a registry that does not answer one thing is told, and that is one that is missing, if one is.
    asked.sort_by_key(|one| !one.is_missing);
    let (mut found, mut silent) = (Vec::new(), BTreeSet::new());
    for one in asked {
        let late = || Answer::Unreachable(format!("nothing came within {} s", ALL.as_secs()));
        let answer = told.remove(&one.reference).unwrap_or_else(late);
        let host = Credentials::registry_of(&one.reference).map(|(host, _)| host).unwrap_or_default();
        let is_told = !matches!(answer, Answer::Unreachable(_)) || silent.insert(host.clone());
        found.extend(registry(&host, &one.reference, &answer, one.is_missing).filter(|_| is_told));
    }
    found
}

fn answer(state: &Path, reference: &str, variables: &BTreeMap<String, String>) -> Answer {
    let limits = Limits { connect: CONNECT, answer: ANSWER, ..Limits::default() };
    let store = ImageStore::with_limits(state, limits);
    let ask = |credentials: &Credentials| {
        store.at_registry(reference, credentials, &|_, _| {}, &|| false, |remote| remote.answers())
    };
    match ask(&Credentials::from_env(variables)) {
        Ok(()) | Err(ImageError::NotFound { .. } | ImageError::RateLimited { .. }) => Answer::Fine,
        Err(ImageError::LoginNeeded { .. }) => Answer::LoginNeeded,
        Err(ImageError::Forbidden { .. }) => Answer::Forbidden,
        Err(ImageError::LoginRefused { .. }) => match ask(&Credentials::none()) {
            Ok(()) | Err(ImageError::NotFound { .. }) => Answer::LoginInTheWay,
            Err(_) => Answer::LoginRefused,
        },
        Err(
            error @ (ImageError::SavedLogin { .. }
            | ImageError::TwoPasswords { .. }
            | ImageError::PasswordOfNobody { .. }
            | ImageError::LoginForNobody { .. }
            | ImageError::NoHost { .. }
            | ImageError::TwoLogins { .. }
            | ImageError::PasswordFile { .. }),
        ) => Answer::LoginUnusable(error.to_string()),
        Err(ImageError::Unreachable { reason, .. } | ImageError::Registry { reason, .. }) => {
            Answer::Unreachable(reason)
        }
        Err(error) => Answer::Unreachable(error.to_string()),
    }
}
