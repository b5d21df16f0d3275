//! A file that is either there as a whole or not there at all.
//!
//! ```text
//! new      make a temporary file in the same directory -> remove it    before the work: can it be done at all?
//! write    write a temporary file there -> sync -> rename it over the target
//! ```
//! Until the rename the target is what it was; after any failure the temporary file is removed.

use crate::failure::Failure;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Names of open files.
const STREAMS: [&str; 5] = ["/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/fd", "/proc"];

/// A file that can be written once the work is done.
#[derive(Debug)]
pub(crate) struct Target {
    /// As it was given, for messages.
    name: String,
    directory: PathBuf,
    path: PathBuf,
}

impl Target {
    /// Checks, before the work begins, that a file of this path could be there.
    pub(crate) fn new(path: &Path) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let refuse = |why: &dyn std::fmt::Display| Err(Failure::Run(format!("{name}: {why}")));
        // These lead to what is open already, perhaps to an ordinary file: nothing to rename over.
        if STREAMS.iter().any(|stream| path.starts_with(stream)) {
            return refuse(&"is a stream, want an ordinary file");
        }
        // A link stays a link: what it points to is replaced.
        let path = match fs::canonicalize(path) {
            Ok(there) if there.is_dir() => return refuse(&"is a directory, want a file"),
            Ok(there) if !there.is_file() => return refuse(&"is no ordinary file"),
            Ok(there) => there,
            Err(error) if error.kind() == ErrorKind::NotFound => path.to_owned(),
            Err(error) => return refuse(&error),
        };
        if path.file_name().is_none() {
            return refuse(&"is not the name of a file");
        }
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        if !directory.is_dir() {
            return refuse(&format_args!("no directory {}", directory.display()));
        }
        // Permissions, quotas and read-only mounts have many causes: only trying tells.
        let tried = temporary(&directory).and_then(|(file, path)| {
            drop(file);
            fs::remove_file(path)
        });
        if let Err(error) = tried {
            return refuse(&format_args!("cannot write in {}: {error}", directory.display()));
        }
        Ok(Self { name, directory, path })
    }

    /// The path as it was given.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Puts `bytes` there, all or nothing.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<(), Failure> {
        self.replace(bytes).map_err(|error| Failure::Run(format!("{}: {error}", self.name)))
    }

    fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        let (mut file, temporary) = temporary(&self.directory)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        drop(file); // some systems rename and remove closed files only
        let renamed = written.and_then(|()| fs::rename(&temporary, &self.path));
        if renamed.is_err() {
            // The first error is the one to tell.
            let _ = fs::remove_file(&temporary);
        }
        renamed
    }
}

/// A new file in the directory; a name that a killed run left behind is passed over.
fn temporary(directory: &Path) -> io::Result<(File, PathBuf)> {
    let mut tries = 0..100;
    loop {
        let name = format!(".sal-{}-{}.tmp", std::process::id(), tries.start);
        let path = directory.join(name);
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists && tries.next().is_some() => {}
            other => return other.map(|file| (file, path)),
        }
    }
}
