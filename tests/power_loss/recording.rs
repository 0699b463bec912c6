//! What a command does to the files of the state that are looked at here, as `strace` saw it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::disk::{Change, Disk};
use crate::harness::{Outcome, Project, finish};

/// All calls that change files, or make changes sure, and those that tell when a transaction has ended.
const CALLS: &str = "openat,creat,write,writev,pwrite64,pwritev,pwritev2,ftruncate,truncate,fallocate,fsync,fdatasync,\
                     sync_file_range,syncfs,msync,copy_file_range,sendfile,rename,renameat,renameat2,link,linkat,symlink,\
                     symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir,fcntl";

/// The byte of its index by whose lock SQLite says who may write.
const WRITER: &str = "l_type=F_UNLCK, l_whence=SEEK_SET, l_start=120, l_len=1}";

/// Something that a command did.
#[derive(Debug)]
pub enum Event {
    Changed(Change),
    /// It let go of the right to write to the database: what it wrote before, it takes to be there from now on.
    Committed,
    /// It had the file system synced that the state lies on. Nothing else is taken to be sure by that here.
    SyncedAll,
}

/// What commands did, one after the other.
pub struct Recording {
    /// The folder that all paths lie in.
    place: PathBuf,
    /// The files as they are while the power is there.
    now: Disk,
    pub events: Vec<Event>,
}

impl Recording {
    /// Of what is done to the state of a project that has none yet.
    pub fn of(project: &Project) -> Self {
        Self { place: project.at(""), now: Disk::new(), events: Vec::new() }
    }

    /// Runs the binary, and takes down what it does.
    pub fn run(&mut self, project: &Project, arguments: &[&str]) -> Outcome {
        let traced = project.command(arguments);
        let calls = project.at("calls");
        let mut command = Command::new("strace");
        // Its first thread alone: what it starts has its own files, and the end shows whether all was seen.
        command.args(["-y", "-xx", "-s", "10000000", "-e", &format!("trace={CALLS}"), "-o"]).arg(&calls);
        command.arg(traced.get_program()).args(traced.get_args()).env_clear();
        command.envs(traced.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.current_dir(&project.root);
        let outcome = finish(project.start(&mut command));
        let mut offsets = BTreeMap::new();
        for line in fs::read_to_string(&calls).unwrap().lines() {
            if let Some(event) = Call::read(line).and_then(|call| self.event(&call, &mut offsets)) {
                if let Event::Changed(change) = &event {
                    self.now.change(change);
                }
                self.events.push(event);
            }
        }
        outcome
    }

    /// The path below the root, of what is looked at here: the database with its log, and what says which generation is
    /// in effect. SQLite's index of the log is memory in a file, and made anew.
    fn path(&self, path: &Path) -> Option<PathBuf> {
        let path = path.strip_prefix(&self.place).ok()?;
        let rest = match path.strip_prefix("state") {
            Ok(rest) => rest.to_string_lossy(),
            Err(_) => return path.as_os_str().is_empty().then(|| path.to_owned()),
        };
        let is_ours = rest.is_empty() || rest.starts_with("state.") || rest.starts_with("active");
        (is_ours && !rest.ends_with("-shm")).then(|| path.to_owned())
    }

    fn event(&self, call: &Call<'_>, offsets: &mut BTreeMap<String, usize>) -> Option<Event> {
        if call.name == "fcntl" {
            let is_index = call.file.as_ref()?.to_string_lossy().ends_with(".db-shm");
            return (is_index && call.rest.ends_with(WRITER)).then_some(Event::Committed);
        }
        if call.name == "syncfs" {
            return call.file.as_ref()?.starts_with(self.place.join("state")).then_some(Event::SyncedAll);
        }
        let text = |index: usize| PathBuf::from(OsString::from_vec(call.texts[index].clone()));
        let named = || self.path(&text(0));
        let opened = || self.path(call.file.as_ref()?);
        let change = match call.name {
            "openat" => {
                offsets.insert(call.result.clone(), 0);
                let path = named()?;
                match self.now.has(&path) {
                    false => Change::File(path),
                    true if call.rest.contains("O_TRUNC") => Change::Resize { path, to: 0 },
                    true => return None,
                }
            }
            "write" => {
                let (path, bytes) = (opened()?, call.texts[0].clone());
                let offset = offsets.entry(call.descriptor.clone()).or_default();
                let at = std::mem::replace(offset, *offset + bytes.len());
                Change::Write { path, at, bytes }
            }
            "pwrite64" => {
                let at = call.rest.rsplit(", ").next().unwrap().parse().unwrap();
                Change::Write { path: opened()?, at, bytes: call.texts[0].clone() }
            }
            "ftruncate" => Change::Resize {
                path: opened()?,
                to: call.rest.rsplit(", ").next().unwrap().parse().unwrap(),
            },
            "fsync" | "fdatasync" => Change::Sync(opened()?),
            "rename" | "renameat" | "renameat2" => {
                let from = named()?;
                Change::Rename { from, to: self.path(&text(1)).unwrap() }
            }
            "symlink" | "symlinkat" => Change::Link { path: self.path(&text(1))?, target: text(0) },
            "unlink" | "unlinkat" => Change::Remove(named()?),
            "mkdir" | "mkdirat" => Change::Folder(named()?),
            other => {
                let is_ours = (0..call.texts.len()).any(|index| self.path(&text(index)).is_some());
                assert!(!is_ours && opened().is_none(), "what does {other} do? {call:?}");
                return None;
            }
        };
        Some(Event::Changed(change))
    }
}

/// A line of what `strace` writes, of a call that did not fail.
#[derive(Debug)]
struct Call<'l> {
    name: &'l str,
    /// Its first descriptor, and the file behind it.
    descriptor: String,
    file: Option<PathBuf>,
    /// What stands between quotes.
    texts: Vec<Vec<u8>>,
    /// All arguments, as they are written.
    rest: &'l str,
    /// The descriptor that it gives.
    result: String,
}

impl<'l> Call<'l> {
    fn read(line: &'l str) -> Option<Self> {
        let (name, rest) = line.split_once('(')?;
        let (rest, result) = rest.rsplit_once(") = ").or_else(|| rest.rsplit_once(")  = "))?;
        let rest = rest.trim_end_matches([')', ' ']);
        if result.starts_with('-') {
            return None;
        }
        let (descriptor, path) = rest.split_once('<').unwrap_or_default();
        let is_descriptor = !descriptor.is_empty() && descriptor.bytes().all(|byte| byte.is_ascii_digit());
        let file = is_descriptor.then(|| path.split_once('>').map(|(path, _)| decoded(path)));
        Some(Self {
            name,
            descriptor: descriptor.to_owned(),
            file: file.flatten().map(|path| PathBuf::from(OsString::from_vec(path))),
            texts: rest.split('"').skip(1).step_by(2).map(decoded).collect(),
            rest,
            result: result.split(['<', ' ']).next().unwrap_or_default().to_owned(),
        })
    }
}

/// Bytes as `\x2f\x76`.
fn decoded(text: &str) -> Vec<u8> {
    text.split("\\x").skip(1).map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}
