use std::path::{Path, PathBuf};

use clap::Args;

use super::{SUCCESS, command_line};
use crate::context::Context;
use crate::error::{Exit, Failure};

/// Write the manual pages
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// The folder to write all pages to; without it, the first page goes to standard output
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

impl Man {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        match &self.folder {
            Some(folder) => {
                write_all(folder).map_err(|error| {
                    let message = format!("cannot write the manual pages to {}: {error}", folder.display());
                    Failure::new(Exit::Engine, "man", message)
                })?;
                context.output.note(format!("Wrote the manual pages to {}", folder.display()));
            }
            None => {
                let mut page = Vec::new();
                clap_mangen::Man::new(command_line()).render(&mut page).map_err(|error| {
                    Failure::new(Exit::Engine, "man", format!("cannot make the manual page: {error}"))
                })?;
                context.output.raw(&page);
            }
        }
        Ok(SUCCESS)
    }
}

fn write_all(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(command_line(), folder)
}
