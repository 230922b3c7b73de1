//! What a relay must know of its earlier life: how long the leases can last that it passed on, for only when those have
//! ended may it speak for what hangs below (the boot wait). Its view doesn't say, because a value may have been tightened
//! between.
//!
//! One line in a file, in milliseconds. It says more before a longer lease can be passed on, and less only once no lease lives
//! that lasts longer.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use haltline_core::{limits::MAX_STALENESS_CEILING, time::Millis};

/// See the module.
#[derive(Debug)]
pub(crate) struct Kept {
    path: PathBuf,
    /// What the file says, if this process has written it.
    longest: Option<Millis>,
}

impl Kept {
    /// The file of this directory, and what an earlier life wrote there. One that can't be read stands for the longest
    /// lease that there can be.
    pub(crate) fn open(directory: &Path) -> (Self, Option<Millis>) {
        let path = directory.join("longest-lease");
        let earlier = match fs::read_to_string(&path) {
            Ok(text) => {
                Some(text.trim().parse().map_or(MAX_STALENESS_CEILING, Millis).min(MAX_STALENESS_CEILING))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(_) => Some(MAX_STALENESS_CEILING),
        };
        (Self { path, longest: None }, earlier)
    }

    /// Makes sure that the file says so. `longest` is to count every lease that may still live, of earlier lives too.
    pub(crate) fn keep(&mut self, longest: Millis) -> io::Result<()> {
        if self.longest == Some(longest) {
            return Ok(());
        }
        let beside = self.path.with_extension("new");
        let mut file = File::create(&beside)?;
        writeln!(file, "{}", longest.0)?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)?;
        self.longest = Some(longest);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_longest_lease_outlives_the_process() {
        let home = tempfile::tempdir().unwrap();
        let (mut kept, earlier) = Kept::open(home.path());
        assert_eq!(earlier, None);
        kept.keep(Millis(2_000)).unwrap();
        kept.keep(Millis(60_000)).unwrap();
        assert_eq!(Kept::open(home.path()).1, Some(Millis(60_000)));
        kept.keep(Millis(500)).unwrap();
        assert_eq!(Kept::open(home.path()).1, Some(Millis(500)));
    }

    #[test]
    fn what_cannot_be_read_stands_for_the_longest() {
        let home = tempfile::tempdir().unwrap();
        for text in ["", "x", "99999999999999999999999", "9999999999"] {
            fs::write(home.path().join("longest-lease"), text).unwrap();
            assert_eq!(Kept::open(home.path()).1, Some(MAX_STALENESS_CEILING), "{text:?}");
        }
    }
}
