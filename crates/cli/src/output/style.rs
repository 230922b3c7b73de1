//! Colours: only on a terminal, and never where `NO_COLOR` is set (no-color.org).

/// Whether to colour, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    coloured: bool,
}

impl Style {
    /// No colours.
    pub(crate) const fn plain() -> Self {
        Self { coloured: false }
    }

    /// Colours, if this goes to a terminal whose owner doesn't mind.
    pub(crate) fn detect(is_terminal: bool) -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self { coloured: is_terminal && !unwanted && !dumb }
    }

    /// Whether there are colours.
    pub(crate) const fn is_coloured(self) -> bool {
        self.coloured
    }

    /// Stopped, failed, broken.
    pub(crate) fn bad(self, text: &str) -> String {
        self.wrap("1;31", text)
    }

    /// Running, done, held.
    pub(crate) fn good(self, text: &str) -> String {
        self.wrap("32", text)
    }

    /// To be noticed.
    pub(crate) fn warn(self, text: &str) -> String {
        self.wrap("33", text)
    }

    /// Headings.
    pub(crate) fn strong(self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// Less important.
    pub(crate) fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.coloured { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}
