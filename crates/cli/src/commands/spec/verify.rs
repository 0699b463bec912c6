use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueEnum};
use setpoint_runtime::spec::{Options, ReportFile};

use super::{specs, surroundings, tell};
use crate::commands::SUCCESS;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::output::span;
use crate::spec_view::{Sheet, html, markdown, text};

/// Run the tests that criteria name, each runner once, and say which criteria hold
///
/// Tests that ended on this very source are not run again. What runners report elsewhere is read by `--from`.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Specs or criteria, such as `cart` or `cart.3`; all, if none is named
    #[arg(value_name = "SPEC")]
    names: Vec<String>,
    /// Read how tests ended from a report, and run none: JUnit XML, the JSON of `go test` or Vitest, or the output of a
    /// test binary of Rust, named before it: `shop::checkout=out.txt`; may be given several times
    #[arg(long, value_name = "FILE", value_parser = report_file)]
    from: Vec<ReportFile>,
    /// Write a report, for people: a page of HTML or Markdown, by the ending of its name; may be given several times
    #[arg(long, value_name = "FILE")]
    report: Vec<PathBuf>,
    /// Fail for what is skipped or a gap, too; with `=skips`, for what is skipped
    #[arg(long, value_name = "WHAT", num_args = 0..=1, require_equals = true, default_missing_value = "all")]
    strict: Option<Strict>,
    /// Run tests that ended on this very source, too
    #[arg(long, conflicts_with = "from")]
    force: bool,
}

/// What is a failure besides failures.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Strict {
    /// What is skipped
    Skips,
    /// What is skipped, and gaps
    All,
}

/// A report, and the test binary that it is of, if it says so.
fn report_file(text: &str) -> Result<ReportFile, String> {
    // A name of a binary has no folder; a file may have the sign in its own name.
    match text.split_once('=') {
        Some((suite, path)) if !suite.is_empty() && !path.is_empty() && suite.contains("::") => {
            Ok(ReportFile { suite: Some(suite.to_owned()), path: path.into() })
        }
        _ => Ok(ReportFile { suite: None, path: text.into() }),
    }
}

/// How a report is written.
#[derive(Debug, Clone, Copy)]
enum Form {
    Html,
    Markdown,
}

impl Form {
    fn of(path: &std::path::Path) -> Result<Self, Failure> {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("html" | "htm") => Ok(Self::Html),
            Some("md") => Ok(Self::Markdown),
            _ => {
                let message = format!("`{}` is neither a page of HTML nor of Markdown", path.display());
                Err(Failure::new(Exit::Usage, "report", message).hint("end its name with `.html` or `.md`"))
            }
        }
    }
}

impl Verify {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        let forms = self.report.iter().map(|path| Form::of(path)).collect::<Result<Vec<_>, _>>()?;
        let specs = specs(context)?;
        context.stop_on_signals()?;
        let mut store = context.store()?;
        let options = Options { names: self.names, force: self.force, reports: self.from };
        let is_from_reports = !options.reports.is_empty();
        let began = Instant::now();
        let verified = specs.verify(&options, surroundings(context, &tell(context.output)), &mut store)?;
        let sheet = Sheet::new(&specs.specs, &verified.criteria);
        for (path, form) in self.report.iter().zip(forms) {
            let page = match form {
                Form::Html => html::page(&sheet),
                Form::Markdown => markdown::page(&sheet),
            };
            let failed = |error: std::io::Error| {
                Failure::new(Exit::Engine, "file", format!("cannot write {}: {error}", path.display()))
            };
            if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                fs::create_dir_all(folder).map_err(failed)?;
            }
            fs::write(path, page).map_err(failed)?;
        }
        let counts = sheet.counts();
        let output = context.output;
        if output.json {
            output.value(&sheet.to_json(Some(verified.ran), Some(verified.kept)));
        } else {
            text::sheet(output, &sheet);
            let how = match (verified.ran, verified.kept, is_from_reports) {
                (told, _, true) => format!("reports tell of {}", tests(told)),
                (0, 0, _) => "there was nothing to run".to_owned(),
                (0, kept, _) => format!(
                    "nothing was run: {} ended on this very source; `--force` runs what did",
                    tests(kept)
                ),
                (ran, 0, _) => format!("{} ran in {}", tests(ran), span(began.elapsed())),
                (ran, kept, _) => {
                    format!(
                        "{} ran in {}, {kept} ended on this very source before",
                        tests(ran),
                        span(began.elapsed())
                    )
                }
            };
            output.line(format!("{}; {how}", text::total(&counts)));
            if verified.is_unsettled {
                output.progress(
                    "The project's files changed while the tests ran, so that they will run again. What tests write is \
                     left out of account where .gitignore or .setpointignore names it.",
                );
            }
            for path in &self.report {
                output.note(format!("written: {}", path.display()));
            }
        }
        let is_bad = match self.strict {
            None => counts.failed > 0,
            Some(Strict::Skips) => counts.failed + counts.skipped > 0,
            Some(Strict::All) => counts.passed < counts.all(),
        };
        Ok(if is_bad { Exit::Failed as u8 } else { SUCCESS })
    }
}

fn tests(number: usize) -> String {
    match number {
        1 => "1 test".to_owned(),
        many => format!("{many} tests"),
    }
}
