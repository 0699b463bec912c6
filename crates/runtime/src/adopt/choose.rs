//! Which container is meant, and whether it can become the unit: decided by what is there, without touching it.

use setpoint_model::manifest::{Env, nearest};
use setpoint_model::names::UnitName;

use crate::engine::UnitId;
use crate::engine::adoption::Candidate;

/// The digits of an id by which people know a container.
const SHORT: usize = 12;

/// Why a container cannot become a unit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Nobody but Setpoint makes units there.
    #[error(
        "the {engine} engine has no units but those that Setpoint made: there is nobody to take them over from, or to hand them back to"
    )]
    NobodyElse {
        /// The engine, as in the manifest.
        engine: &'static str,
    },
    /// There is no such container.
    #[error("there is no container `{wanted}`{}", there_is(.known))]
    NoContainer {
        /// As it was asked for.
        wanted: String,
        /// The one that was probably meant.
        near: Option<String>,
        /// Those that there are.
        known: Vec<String>,
    },
    /// Several are meant.
    #[error("`{wanted}` is the beginning of several ids: {}", .found.join(", "))]
    Several {
        /// As it was asked for.
        wanted: String,
        /// Those that are meant.
        found: Vec<String>,
    },
    /// It has ended, and is not one whose end is waited for.
    #[error("the container {container} does not run")]
    NotRunning {
        /// Its name.
        container: String,
    },
    /// It is another unit.
    #[error("the container {container} is the unit {unit} already")]
    Taken {
        /// Its name.
        container: String,
        /// The unit's id.
        unit: String,
    },
    /// The unit is another container.
    #[error("{unit} is there already: it is the container {container}")]
    Exists {
        /// The unit.
        unit: String,
        /// The container that it is.
        container: String,
    },
    /// There is no such Compose project.
    #[error("nothing of a Compose project `{wanted}` is there{}", there_is(.known))]
    NoProject {
        /// As it was asked for.
        wanted: String,
        /// The one that was probably meant.
        near: Option<String>,
        /// Those that there are.
        known: Vec<String>,
    },
    /// Compose runs what the files do not declare.
    #[error("the container {container} runs the service `{service}`, which nothing here declares")]
    Undeclared {
        /// Its name.
        container: String,
        /// What Compose calls its service.
        service: String,
        /// The one that was probably meant.
        near: Option<String>,
    },
    /// A service runs more than once.
    #[error("the service `{service}` runs {} times, and a unit is one container: {}", .containers.len(), .containers.join(", "))]
    Scaled {
        /// What Compose calls it.
        service: String,
        /// Their names.
        containers: Vec<String>,
    },
}

impl Unfit {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> String {
        let meant = |near: &Option<String>| near.as_ref().map(|near| format!("did you mean `{near}`?"));
        match self {
            Self::NobodyElse { .. } => {
                "what Docker or Podman runs is taken over with `engine.default` set to that; `setpoint stop` leaves a unit \
                 alone, `setpoint down` removes it"
                    .to_owned()
            }
            Self::NoContainer { near, .. } => {
                meant(near).unwrap_or_else(|| "name one by its name, or by the beginning of its id".to_owned())
            }
            Self::Several { .. } => "give more of the id, or its name".to_owned(),
            Self::NotRunning { container } => format!(
                "start it as it was started before (`docker start {container}`), or remove it and let `setpoint up` make \
                 one"
            ),
            Self::Taken { .. } => "`setpoint disown` in its project hands it back".to_owned(),
            Self::Exists { unit, .. } => {
                format!("`setpoint disown {unit}` hands it back, `setpoint down {unit}` removes it")
            }
            Self::NoProject { near, .. } => meant(near).unwrap_or_else(|| {
                "a project is called as Compose calls it; one container is taken over by `setpoint adopt NAME CONTAINER`"
                    .to_owned()
            }),
            Self::Undeclared { container, near, .. } => meant(near).unwrap_or_else(|| {
                format!("declare it, or remove it (`docker rm -f {container}`); nothing was taken over")
            }),
            Self::Scaled { .. } => "remove all but one, and run the others elsewhere".to_owned(),
        }
    }
}

fn there_is(known: &[String]) -> String {
    if known.is_empty() { String::new() } else { format!("; there is: {}", known.join(", ")) }
}

/// What is to become which unit.
pub type Choice<'a> = (&'a Env, Candidate);

/// The container of this name, or whose id begins so.
///
/// # Errors
/// If there is none, or several.
pub fn named(all: &[Candidate], wanted: &str) -> Result<Candidate, Unfit> {
    if let Some(found) = all.iter().find(|one| one.name == wanted || one.id == wanted) {
        return Ok(found.clone());
    }
    let begin_so = |one: &&Candidate| !wanted.is_empty() && one.id.starts_with(wanted);
    match all.iter().filter(begin_so).collect::<Vec<_>>().as_slice() {
        [one] => Ok((*one).clone()),
        [] => {
            let known: Vec<_> =
                all.iter().filter(|one| one.unit.is_none()).map(|one| one.name.clone()).collect();
            let near = nearest(wanted, known.iter().map(String::as_str)).map(str::to_owned);
            Err(Unfit::NoContainer { wanted: wanted.to_owned(), near, known })
        }
        many => {
            let short = |one: &&Candidate| one.id.get(..SHORT).unwrap_or(&one.id).to_owned();
            let found = many.iter().map(|one| format!("{} ({})", short(one), one.name)).collect();
            Err(Unfit::Several { wanted: wanted.to_owned(), found })
        }
    }
}

/// What the containers of a Compose project are to become, each service a unit.
///
/// # Errors
/// If there is no such project, or one of its containers can be no unit.
pub fn of_project<'a>(all: &[Candidate], project: &str, envs: &[&'a Env]) -> Result<Vec<Choice<'a>>, Unfit> {
    let of = |one: &&Candidate| one.compose.as_ref().is_some_and(|of| of.project == project);
    let containers: Vec<&Candidate> = all.iter().filter(of).collect();
    if containers.is_empty() {
        let mut known: Vec<_> =
            all.iter().filter_map(|one| one.compose.as_ref()).map(|of| of.project.clone()).collect();
        known.dedup();
        known.sort();
        known.dedup();
        let near = nearest(project, known.iter().map(String::as_str)).map(str::to_owned);
        return Err(Unfit::NoProject { wanted: project.to_owned(), near, known });
    }
    let called = |env: &Env| env.service.as_ref().map(|of| of.called.clone());
    let mut chosen: Vec<Choice<'a>> = Vec::new();
    for one in containers {
        let service = one.compose.as_ref().map(|of| of.service.clone()).unwrap_or_default();
        let Some(env) = envs.iter().find(|env| called(env).as_ref() == Some(&service)) else {
            let names: Vec<_> = envs.iter().filter_map(|env| called(env)).collect();
            let near = nearest(&service, names.iter().map(String::as_str)).map(str::to_owned);
            return Err(Unfit::Undeclared { container: one.name.clone(), service, near });
        };
        if let Some((_, other)) = chosen.iter().find(|(known, _)| known.name == env.name) {
            let containers = vec![other.name.clone(), one.name.clone()];
            return Err(Unfit::Scaled { service, containers });
        }
        chosen.push((env, one.clone()));
    }
    Ok(chosen)
}

/// The same container as it is now.
pub(super) fn still_there<'c>(all: &'c [Candidate], chosen: &Candidate) -> Result<&'c Candidate, Unfit> {
    all.iter().find(|one| one.id == chosen.id).ok_or_else(|| Unfit::NoContainer {
        wanted: chosen.name.clone(),
        near: None,
        known: Vec::new(),
    })
}

/// Whether a container can become a unit: nobody else's, and the unit is nothing else.
///
/// # Errors
/// What is in the way.
pub fn is_free(env: &Env, id: &UnitId, candidate: &Candidate, all: &[Candidate]) -> Result<(), Unfit> {
    if let Some(unit) = candidate.unit.as_ref().filter(|unit| *unit != id) {
        return Err(Unfit::Taken { container: candidate.name.clone(), unit: unit.as_str().to_owned() });
    }
    let is_unit = |one: &&Candidate| one.unit.as_ref() == Some(id) && one.id != candidate.id;
    if let Some(other) = all.iter().find(is_unit) {
        return Err(Unfit::Exists { unit: env.name.to_string(), container: other.name.clone() });
    }
    // One that is the unit is so also while it does not run; one that others wait for to end may have ended.
    let may_have_ended = candidate.unit.is_some() || env.service.as_ref().is_some_and(|of| of.completes);
    if !candidate.running && !may_have_ended {
        return Err(Unfit::NotRunning { container: candidate.name.clone() });
    }
    Ok(())
}

/// A container that a new one of a unit would stand beside: one that was the unit before it was handed back, or that
/// Compose runs for the same service of the same folder.
#[must_use]
pub fn in_its_place<'c>(
    all: &'c [Candidate],
    id: &UnitId,
    folder: &std::path::Path,
    called: Option<&str>,
) -> Option<&'c Candidate> {
    all.iter().find(|one| {
        let compose = one.compose.as_ref();
        let same = compose
            .is_some_and(|of| of.folder.as_deref() == Some(folder) && Some(of.service.as_str()) == called);
        one.unit.is_none() && (one.was.as_ref() == Some(id) || (one.running && same))
    })
}

/// The units that containers are, by the containers' ids.
pub fn peers<'a>(
    choices: impl IntoIterator<Item = &'a Choice<'a>>,
) -> std::collections::BTreeMap<String, UnitName> {
    choices.into_iter().map(|(env, one)| (one.id.clone(), env.name.clone())).collect()
}

#[cfg(test)]
mod tests;
