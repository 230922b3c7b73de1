//! What goes to the terminal: tables that fit, JSON and YAML, colours where they are wanted, nothing that could steer it.
//!
//! A command returns something that is [`Render`]; which form it takes is decided here alone.

pub(crate) mod escape;
pub(crate) mod page;
pub(crate) mod progress;
pub(crate) mod style;
pub(crate) mod table;
pub(crate) mod times;
pub(crate) mod value;

use std::io::{self, IsTerminal, Write};

use serde_json::Value;

use crate::{args::Format, failure::Failure};
use page::Page;
use style::Style;

/// Columns where the width of the terminal isn't known.
const WIDTH_DEFAULT: usize = 80;
/// Columns below which nothing sensible fits.
const WIDTH_MIN: usize = 20;

/// A result, for people and for programs.
pub(crate) trait Render {
    /// For people.
    fn page(&self, page: &mut Page);
    /// For programs.
    fn value(&self) -> Value;
}

/// Where results go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Screen {
    /// In which form.
    pub(crate) format: Format,
    /// How wide.
    pub(crate) width: usize,
    /// Colours on standard output.
    pub(crate) style: Style,
    /// Colours on standard error.
    pub(crate) error_style: Style,
}

impl Screen {
    /// The terminal as it is.
    pub(crate) fn detect(format: Format) -> Self {
        Self {
            format,
            width: width(),
            style: Style::detect(io::stdout().is_terminal()),
            error_style: Style::detect(io::stderr().is_terminal()),
        }
    }

    /// Prints a result.
    ///
    /// # Errors
    /// Standard output refuses.
    pub(crate) fn print(&self, result: &dyn Render) -> Result<(), Failure> {
        write_out(&self.rendered(result))
    }

    /// A result as text.
    pub(crate) fn rendered(&self, result: &dyn Render) -> String {
        match self.format {
            Format::Table => {
                let mut page = Page::new(self.width, self.style);
                result.page(&mut page);
                page.into_text()
            }
            Format::Json => value::json_pretty(&result.value()) + "\n",
            Format::Yaml => value::yaml(&result.value()),
        }
    }

    /// Prints one of many results that keep coming: a line, a JSON line, a YAML document.
    ///
    /// # Errors
    /// Standard output refuses.
    pub(crate) fn print_item(&self, result: &dyn Render) -> Result<(), Failure> {
        match self.format {
            Format::Table => self.print(result),
            Format::Json => write_out(&(value::json_line(&result.value()) + "\n")),
            Format::Yaml => write_out(&format!("---\n{}", value::yaml(&result.value()))),
        }
    }

    /// A remark beside the result, on standard error.
    pub(crate) fn remark(&self, text: &str) {
        eprintln!("{}", escape::line(text));
    }
}

/// Writes to standard output.
///
/// # Errors
/// It refuses. Where nobody reads any more, as `head` once it has seen enough, the failure is a quiet one.
pub(crate) fn write_out(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::quiet_end()),
        Err(error) => Err(Failure::local(format!("can't write to standard output: {error}"))),
        Ok(()) => Ok(()),
    }
}

fn width() -> usize {
    let from_environment = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    let from_terminal = || terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    from_environment.or_else(from_terminal).unwrap_or(WIDTH_DEFAULT).max(WIDTH_MIN)
}
