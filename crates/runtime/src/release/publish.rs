//! Making a release: the commit is checked, images are built or taken by their digests, and all of it is pushed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use setpoint_model::manifest::Base;
use setpoint_model::names::UnitName;
use setpoint_model::release::{Bundle, Origin, PinnedImage, Repository, Version, lock};

use super::error::ReleaseError;
use super::fetch::{Registry, signature_tag};
use super::make::{self, Parts};
use super::parcel::Parcel;
use super::repository::Checkout;
use super::scratch::Scratch;
use super::sign::{self, SigningKey};
use crate::artifact::DOCUMENT;
use crate::engine::{BaseSource, Pull};
use crate::events::Event;
use crate::image::{ImageStore, Remote};
use crate::observe::Unit;
use crate::project::{MANIFEST, Project};

/// The file that says what was released last, beside the manifest.
pub const LOCK: &str = "setpoint.lock";

/// A release that is to be made.
pub struct Publishing<'a> {
    /// Where it goes, and the rooms that that needs.
    pub registry: Registry<'a>,
    /// The project.
    pub project: &'a Project,
    /// Its services.
    pub units: &'a [Unit<'a>],
    /// Where images and the bundle go.
    pub repository: &'a Repository,
    /// Which version it is.
    pub version: &'a Version,
    /// What signs it.
    pub key: Option<&'a SigningKey>,
}

/// A release that is there.
pub struct Published {
    /// Its digest.
    pub digest: String,
    /// What it holds.
    pub bundle: Bundle,
    /// The tag of git that stands for it.
    pub tag: String,
    /// Whether it was there before, just so.
    pub was_there: bool,
    /// Whether it is signed by the key that was given.
    pub signed: bool,
}

impl Publishing<'_> {
    /// Makes the release. A second time, with the same content, it changes nothing.
    ///
    /// # Errors
    /// [`ReleaseError`]; then nothing has the tag of the version that did not have it before.
    pub fn publish(&self) -> Result<Published, ReleaseError> {
        let (project, version) = (self.project, self.version);
        let checkout = Checkout::clean(&project.root)?;
        let tag = checkout.tag(version)?;
        if let Some(declared) = &project.manifest.project.version
            && Version::parse(declared).ok().as_ref() != Some(version)
        {
            return Err(ReleaseError::Version { declared: declared.clone(), wanted: version.clone() });
        }
        make::check(project)?;
        let carried = make::carried(&checkout, project)?;
        let path = project.root.join(MANIFEST);
        let manifest = fs::read_to_string(&path).map_err(ReleaseError::io("read", &path))?;
        let before = self.before()?;
        let images = self.images(before.as_ref().map(|before| &before.bundle))?;
        let (repository, units) = (self.repository, self.units);
        let manifest = manifest.as_str();
        let parcel = make::parcel(Parts { project, manifest, units, version, repository, images, carried })?;
        if let Some(before) = &before
            && before.bundle != parcel.bundle
        {
            return Err(self.different(differences(&before.bundle, &parcel.bundle)));
        }
        let (was_there, parcel) = match before {
            Some(before) => (true, before),
            None => (false, parcel),
        };
        self.registry.at(self.repository.as_str(), |remote| self.push(remote, &parcel, was_there))?;
        let tag = match tag {
            Some(tag) => tag,
            None => checkout.make_tag(version)?,
        };
        let path = project.root.join(LOCK);
        fs::write(&path, lock(&parcel.bundle, &parcel.digest)).map_err(ReleaseError::io("write", &path))?;
        let Parcel { digest, bundle, .. } = parcel;
        Ok(Published { digest, bundle, tag, was_there, signed: self.key.is_some() })
    }

    fn origin(&self) -> Origin {
        Origin { repository: self.repository.clone(), version: self.version.clone() }
    }

    fn different(&self, differs: Vec<String>) -> ReleaseError {
        ReleaseError::Different { origin: self.origin(), differs }
    }

    /// The release of this version that is there already.
    fn before(&self) -> Result<Option<Parcel>, ReleaseError> {
        self.registry.at(self.repository.as_str(), |remote| {
            let Some(document) = remote.document(&self.version.to_string())? else { return Ok(None) };
            let blob = |digest: &str, size| Ok(remote.blob(digest, size)?);
            Parcel::read(&self.origin().to_string(), document, blob).map(Some)
        })
    }

    fn tell(&self, phase: &str, detail: &str) {
        self.registry.watcher.event(&Event::Began { phase: phase.to_owned(), detail: detail.to_owned() });
    }

    /// What services are built on, fixed. What a release of this version has already is what it has: a tag may have
    /// moved, and what is built twice is not always the same.
    fn images(&self, before: Option<&Bundle>) -> Result<BTreeMap<UnitName, PinnedImage>, ReleaseError> {
        let mut images = BTreeMap::new();
        for unit in self.units {
            let name = &unit.env.name;
            let Some((from, base)) = made_from(unit)? else { continue };
            let known = before.and_then(|before| before.images.get(name));
            let reference = match known.filter(|known| known.from == from) {
                Some(known) => known.reference.clone(),
                None if before.is_some() => return Err(self.different(vec![format!("the image of {name}")])),
                None => {
                    let began = std::time::Instant::now();
                    self.tell("image", &format!("{name}: {from}"));
                    let reference = self.fixed(unit, &base)?;
                    let (phase, detail) = ("image".to_owned(), format!("{name}: {from}"));
                    self.registry.watcher.event(&Event::Done { phase, detail, took: began.elapsed() });
                    reference
                }
            };
            images.insert(name.clone(), PinnedImage { reference, from });
        }
        Ok(images)
    }

    /// An image by its digest, from where every machine can have it.
    fn fixed(&self, unit: &Unit<'_>, base: &BaseSource) -> Result<String, ReleaseError> {
        let (registry, store) = (&self.registry, ImageStore::new(&self.registry.roots.state));
        let progress = |done, total| registry.watcher.event(&Event::Bytes { done, total });
        let cancelled = || registry.cancel.asked();
        // It begins with a letter, so that it is no version.
        let tag = format!("{}-{}", unit.env.name, self.version);
        let push = |image: &crate::image::Bundle| {
            registry.at(self.repository.as_str(), |remote| Ok(remote.push_image(&tag, image)?))
        };
        match base {
            BaseSource::Image { reference } if !Path::new(reference).is_absolute() => {
                registry.at(reference, |remote| Ok(remote.pinned()?))
            }
            BaseSource::Image { reference } => {
                let path = Path::new(reference);
                let image = match store.bundle(path, &progress, &cancelled)? {
                    Some(image) => image,
                    None => store.saved(path, &progress, &cancelled)?,
                };
                push(&image)
            }
            base => {
                unit.engine.prepare(base, Pull::Missing, registry.watcher, registry.cancel)?;
                let scratch = Scratch::take(registry.roots)?;
                let file = scratch.path().join("image.tar");
                unit.engine.save(base, &file, registry.cancel)?;
                push(&store.saved(&file, &progress, &cancelled)?)
            }
        }
    }

    /// Pushes what is missing. What has the version's tag is whole.
    fn push(&self, remote: &Remote<'_, '_>, parcel: &Parcel, was_there: bool) -> Result<(), ReleaseError> {
        if !was_there {
            remote.push_blob(&parcel.config)?;
            remote.push_blob(&parcel.files)?;
        }
        if let Some(key) = self.key {
            let signature = key.sign(&parcel.bundle, &parcel.digest);
            remote.push_blob(sign::EMPTY_TEXT)?;
            remote.push_blob(&signature)?;
            let document = sign::document(&signature);
            remote.push_document(&signature_tag(&parcel.digest), DOCUMENT, &document)?;
        }
        if !was_there {
            remote.push_document(&self.version.to_string(), DOCUMENT, &parcel.document)?;
        }
        Ok(())
    }
}

/// What the image of a service is made of, in words that differ where it does; nothing for one that has no image.
fn made_from(unit: &Unit<'_>) -> Result<Option<(String, BaseSource)>, ReleaseError> {
    let base = unit.base()?;
    Ok(match (&unit.env.base, &base) {
        (Base::Image { reference }, BaseSource::Image { reference: whole }) => {
            match unit.facts()?.0.image_file.filter(|_| Path::new(whole).is_absolute()) {
                Some(file) => Some((format!("image {reference} ({})", file.digest.to_hex()), base)),
                None => Some((format!("image {reference}"), base)),
            }
        }
        (_, BaseSource::Build { inputs, .. }) => Some((format!("build {}", inputs.to_hex()), base)),
        _ => None,
    })
}

/// In what two bundles of a version differ.
fn differences(before: &Bundle, now: &Bundle) -> Vec<String> {
    let all = before.files.keys().chain(now.files.keys()).collect::<std::collections::BTreeSet<_>>();
    let mut found: Vec<String> =
        all.into_iter().filter(|path| before.files.get(*path) != now.files.get(*path)).cloned().collect();
    if before.images.keys().ne(now.images.keys()) {
        found.push("its services".to_owned());
    }
    if found.is_empty() {
        found.push("its name or its settings".to_owned());
    }
    found
}
