//! The files that the checks look at: what git tracks, and what it would track (new, not ignored).

use std::{path::Path, process::Command};

use crate::{error::XtaskError, steps};

/// One text file.
#[derive(Debug, Clone)]
pub(super) struct TextFile {
    /// Relative to the workspace root, with `/`.
    pub(super) path: String,
    pub(super) text: String,
}

/// All text files of the workspace, sorted by path.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) files: Vec<TextFile>,
}

impl Tree {
    /// Reads the tree at `root`. Files that aren't UTF-8 are left out: no rule speaks of them.
    pub(super) fn read(root: &Path) -> Result<Tree, XtaskError> {
        let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
        let printed = steps::output(Command::new("git").args(list).current_dir(root))?;
        let mut files = Vec::new();
        for path in printed.split(|byte| *byte == 0).filter_map(|path| std::str::from_utf8(path).ok()) {
            let full = root.join(path);
            // Deleted but still tracked, or a submodule's folder.
            if path.is_empty() || !full.is_file() {
                continue;
            }
            let bytes = std::fs::read(&full).map_err(|source| XtaskError::File { path: full, source })?;
            if let Ok(text) = String::from_utf8(bytes) {
                files.push(TextFile { path: path.to_owned(), text });
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files.dedup_by(|a, b| a.path == b.path);
        Ok(Tree { files })
    }

    /// The text of the file at `path`.
    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.files.iter().find(|file| file.path == path).map(|file| file.text.as_str())
    }

    /// A tree made of these files, for the tests of the rules.
    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Tree {
        let files = files
            .iter()
            .map(|(path, text)| TextFile { path: (*path).to_owned(), text: (*text).to_owned() })
            .collect();
        Tree { files }
    }
}
