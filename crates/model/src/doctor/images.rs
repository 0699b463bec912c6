//! Images: what their names say, and what is here by those names.

use super::finding::Finding;
use super::row::Row;

/// An image of a registry that a service is declared on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeenImage {
    /// The unit that is built on it.
    pub unit: String,
    /// Its reference, as it is declared.
    pub reference: String,
    /// Whether it is on the engine.
    pub is_here: bool,
    /// What registries call it: `postgres@sha256:...`; none of one that was made on the engine.
    pub digests: Vec<String>,
    /// The archive of what the unit ran on when it was taken over, if that is kept.
    pub kept: Option<String>,
    /// What `setpoint.lock` has for the unit.
    pub locked: Option<String>,
    /// The processors that it is for, as images have it: `amd64`; empty where that is not known.
    pub architecture: String,
    /// The engine's processors, and others that it runs all the same.
    pub runs: Vec<String>,
}

/// What is to be said of an image.
#[must_use]
pub fn images(seen: &SeenImage) -> Vec<Finding> {
    let SeenImage { unit, reference, .. } = seen;
    let mut found = Vec::new();
    let pinned = || match seen.digests.iter().find_map(|digest| Some(digest.split_once('@')?.1)) {
        Some(digest) => {
            format!("`image = \"{}@{digest}\"` in `{unit}` stays what it is now", without_tag(reference))
        }
        None => format!("name a version in the image of `{unit}`, or its digest"),
    };
    match name(reference) {
        Name::Digest => {}
        Name::Tag("latest") | Name::None => {
            let what = format!("{reference} is whatever was pushed last: nobody can tell which version runs");
            found.push(Finding::of(Row::FloatingTag, unit, what, pinned()));
        }
        Name::Tag(_) => {}
    }
    // What came in a file has no digest of a registry, and is what its own says all the same.
    if seen.is_here && seen.digests.is_empty() && name(reference) != Name::Digest {
        let what =
            format!("{reference} is here, and came from no registry: nobody knows what it was made of");
        let until = match &seen.kept {
            Some(archive) => format!("`image = \"{archive}\"` is what `{unit}` was taken over with"),
            None => "`docker save` keeps it until then".to_owned(),
        };
        let fix =
            format!("build it by `build` in the manifest, or push it and pull it by its digest; {until}");
        found.push(Finding::of(Row::UnknownImage, unit, what, fix));
    }
    if let (false, Some(archive)) = (seen.is_here, &seen.kept) {
        let what =
            format!("{reference} is not here, and `{unit}` was taken over with an image of no registry");
        let fix = format!(
            "`setpoint up` fetches it, if a registry has it; `image = \"{archive}\"` is what that was"
        );
        found.push(Finding::of(Row::UnknownImage, unit, what, fix));
    }
    found.extend(seen.locked.as_deref().and_then(|locked| unlocked(seen, locked)));
    let is_other = !seen.architecture.is_empty() && !seen.runs.contains(&seen.architecture);
    if seen.is_here && is_other && !seen.runs.is_empty() {
        let what = format!(
            "{reference} is for {}, and the engine's processors are {}",
            seen.architecture,
            seen.runs.join(", ")
        );
        let fix = format!("remove that image and pull one for {}, or declare one that has it", seen.runs[0]);
        found.push(Finding::of(Row::WrongArchitecture, unit, what, fix));
    }
    found
}

/// A tag that means another image than the one that was released.
fn unlocked(seen: &SeenImage, locked: &str) -> Option<Finding> {
    let SeenImage { unit, reference, digests, .. } = seen;
    let (repository, digest) = locked.split_once('@')?;
    let is_same = name(reference) != Name::Digest && in_full(without_tag(reference)) == in_full(repository);
    let here = digests.iter().filter_map(|digest| Some(digest.split_once('@')?.1)).collect::<Vec<_>>();
    if !is_same || here.is_empty() || here.contains(&digest) {
        return None;
    }
    let what = format!(
        "{reference} is {} here, and setpoint.lock has {}: the tag has moved",
        short(here[0]),
        short(digest)
    );
    let fix = format!(
        "`setpoint release` of the next version takes the new one; `image = \"{}@{digest}\"` goes back",
        without_tag(reference)
    );
    Some(Finding::of(Row::UnlockedTag, unit, what, fix))
}

/// What a reference names an image by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name<'a> {
    Digest,
    Tag(&'a str),
    None,
}

fn name(reference: &str) -> Name<'_> {
    if reference.contains('@') {
        return Name::Digest;
    }
    let last = reference.rsplit('/').next().unwrap_or(reference);
    last.split_once(':').map_or(Name::None, |(_, tag)| Name::Tag(tag))
}

fn without_tag(reference: &str) -> &str {
    let plain = reference.split('@').next().unwrap_or(reference);
    let begin = plain.rfind('/').map_or(0, |at| at + 1);
    plain[begin..].find(':').map_or(plain, |at| &plain[..begin + at])
}

/// A repository with what Docker leaves out of those of its own.
fn in_full(repository: &str) -> String {
    let (host, rest) = repository.split_once('/').unwrap_or(("", repository));
    let is_host = host.contains(['.', ':']) || host == "localhost";
    match (is_host, repository.contains('/')) {
        (true, _) if matches!(host, "docker.io" | "index.docker.io") => match rest.contains('/') {
            true => format!("docker.io/{rest}"),
            false => format!("docker.io/library/{rest}"),
        },
        (true, _) => repository.to_owned(),
        (false, true) => format!("docker.io/{repository}"),
        (false, false) => format!("docker.io/library/{repository}"),
    }
}

/// A digest, short enough for people.
fn short(digest: &str) -> &str {
    const LENGTH: usize = "sha256:".len() + 12;
    digest.get(..LENGTH).unwrap_or(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(seen: &SeenImage) -> Vec<&'static str> {
        images(seen).iter().filter_map(|finding| Some(finding.row?.id())).collect()
    }

    fn seen(reference: &str) -> SeenImage {
        let runs = vec!["amd64".to_owned()];
        let digests = vec!["postgres@sha256:aaaaaaaaaaaaaaaaaa".to_owned()];
        let reference = reference.to_owned();
        SeenImage { unit: "db".to_owned(), reference, is_here: true, digests, runs, ..SeenImage::default() }
    }

    #[test]
    fn a_tag_floats_that_says_nothing() {
        for (reference, is_told) in [
            ("postgres", true),
            ("postgres:latest", true),
            ("localhost:5000/shop", true),
            ("localhost:5000/shop:latest", true),
            ("postgres:16", false),
            ("localhost:5000/shop:1.0", false),
            ("postgres@sha256:aa", false),
            ("postgres:latest@sha256:aa", false),
        ] {
            assert_eq!(rows(&seen(reference)) == ["floating-tag"], is_told, "{reference}");
        }
    }

    #[test]
    fn an_image_that_was_made_here_is_of_unknown_origin() {
        let made = SeenImage { digests: Vec::new(), ..seen("shop:1.0") };
        assert_eq!(rows(&made), ["unknown-image"]);
        let gone = SeenImage { is_here: false, ..made.clone() };
        assert_eq!(rows(&gone), [""; 0]);
        let kept = Some("/kept/one.tar".to_owned());
        for seen in [&made, &gone] {
            let told = images(&SeenImage { kept: kept.clone(), ..seen.clone() });
            assert!(told[0].fix.as_ref().unwrap().contains("`image = \"/kept/one.tar\"`"), "{told:?}");
        }
        assert_eq!(rows(&SeenImage { reference: "r.example/shop@sha256:aa".to_owned(), ..made }), [""; 0]);
    }

    #[test]
    fn a_tag_has_moved_whose_digest_is_not_the_locked_one() {
        let locked = |locked: &str| SeenImage { locked: Some(locked.to_owned()), ..seen("postgres:16") };
        assert_eq!(rows(&locked("docker.io/library/postgres@sha256:bb")), ["unlocked-tag"]);
        assert_eq!(rows(&locked("docker.io/library/postgres@sha256:aaaaaaaaaaaaaaaaaa")), [""; 0]);
        // The service had another image when it was released.
        assert_eq!(rows(&locked("docker.io/library/mysql@sha256:bb")), [""; 0]);
        assert_eq!(
            rows(&SeenImage { digests: Vec::new(), is_here: false, ..locked("postgres@sha256:bb") }),
            [""; 0]
        );
    }

    #[test]
    fn an_image_for_other_processors_is_told_unless_they_are_emulated() {
        let arm = SeenImage { architecture: "arm64".to_owned(), ..seen("postgres:16") };
        assert_eq!(rows(&arm), ["wrong-architecture"]);
        let runs = vec!["amd64".to_owned(), "arm64".to_owned()];
        assert_eq!(rows(&SeenImage { runs, ..arm.clone() }), [""; 0]);
        assert_eq!(rows(&SeenImage { runs: Vec::new(), ..arm }), [""; 0]);
    }

    #[test]
    fn names_of_repositories_mean_the_same_with_and_without_their_host() {
        for (short, full) in [
            ("postgres", "docker.io/library/postgres"),
            ("docker.io/postgres", "docker.io/library/postgres"),
            ("acme/shop", "docker.io/acme/shop"),
            ("ghcr.io/acme/shop", "ghcr.io/acme/shop"),
            ("localhost/shop", "localhost/shop"),
        ] {
            assert_eq!(in_full(short), full);
        }
        assert_eq!(without_tag("localhost:5000/a/b:1@sha256:c"), "localhost:5000/a/b");
        assert_eq!(without_tag("localhost:5000/a/b"), "localhost:5000/a/b");
    }
}
