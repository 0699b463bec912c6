//! Images.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
/// Source.
#[derive(Debug, Clone)]
pub enum Source {
    /// r
    Reference(String),
    /// l
    Layout(PathBuf),
    /// a
    Archive(PathBuf),
    /// d
    RootfsDir(PathBuf),
    /// t
    RootfsTar(PathBuf),
}
/// Config.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct Config {
    /// env
    pub env: Vec<String>,
    /// user
    pub user: Option<String>,
    /// wd
    pub workdir: Option<String>,
}
/// Image.
#[derive(Debug, Clone)]
pub struct Image {
    /// d
    pub digest: String,
    /// l
    pub layers: Vec<PathBuf>,
    /// c
    pub config: Config,
}
/// Creds.
pub struct Credentials;
impl Credentials {
    /// f
    pub fn from_variables(_: &BTreeMap<String, String>) -> Self {
        Self
    }
}
/// Store.
pub struct ImageStore(PathBuf);
/// Err.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// n
    #[error("not yet")]
    NotYet,
}
impl ImageError {
    /// h
    pub fn hint(&self) -> Option<String> {
        None
    }
}
impl ImageStore {
    /// n
    pub fn new(root: &Path) -> Self {
        Self(root.to_owned())
    }
    /// l
    pub fn local(&self, source: &Source) -> Result<Option<Image>, ImageError> {
        match source {
            Source::RootfsDir(d) => Ok(Some(Image {
                digest: format!("dir:{}", d.display()),
                layers: vec![d.clone()],
                config: Config::default(),
            })),
            _ => {
                let _ = &self.0;
                Ok(None)
            }
        }
    }
    /// e
    pub fn ensure(
        &self,
        source: &Source,
        _always: bool,
        _c: &Credentials,
        _p: &(dyn Fn(u64, Option<u64>) + Sync),
        _x: &(dyn Fn() -> bool + Sync),
    ) -> Result<Image, ImageError> {
        self.local(source)?.ok_or(ImageError::NotYet)
    }
}
