//! File descriptors for the moment when the process has no others.
//!
//! A node that serves thousands of connections may run into its limit, and must then still open the next segment and sync
//! its directory. So a few descriptors are opened early and given up one by one when an `open` finds none. The limit is the
//! process's, and so is this reserve.

use std::{fs::File, io};

use haltline_core::limits::STORAGE_DESCRIPTORS_RESERVED;
use parking_lot::Mutex;
use rustix::io::Errno;

/// What is held is nothing in particular.
const PLACEHOLDER: &str = "/dev/null";

static RESERVED: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// Opens something, with a descriptor of the reserve if there is no other.
pub(super) fn with_reserve<T>(open: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    with(&RESERVED, open)
}

fn with<T>(reserved: &Mutex<Vec<File>>, mut open: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match open() {
            Err(error) if is_out_of_descriptors(&error) => {
                // Somebody else may be quicker to take what is given up here, so more than once.
                let Some(given_up) = reserved.lock().pop() else { return Err(error) };
                drop(given_up);
            }
            opened => {
                refill(reserved);
                return opened;
            }
        }
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    let errno = error.raw_os_error();
    errno == Some(Errno::MFILE.raw_os_error()) || errno == Some(Errno::NFILE.raw_os_error())
}

fn refill(reserved: &Mutex<Vec<File>>) {
    let mut reserved = reserved.lock();
    while reserved.len() < STORAGE_DESCRIPTORS_RESERVED {
        // Without one to spare, the next call tries again.
        let Ok(file) = File::open(PLACEHOLDER) else { return };
        reserved.push(file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_given_up_when_there_is_no_other_and_filled_again() {
        let reserved = Mutex::new(Vec::new());
        assert!(with(&reserved, || Ok(1)).is_ok());
        assert_eq!(reserved.lock().len(), STORAGE_DESCRIPTORS_RESERVED);
        let mut refusals = 3;
        let opened = with(&reserved, || {
            if refusals == 0 {
                return Ok(reserved.lock().len());
            }
            refusals -= 1;
            Err::<usize, _>(Errno::MFILE.into())
        });
        assert_eq!(opened.expect("the reserve gave way"), STORAGE_DESCRIPTORS_RESERVED - 3);
        assert_eq!(reserved.lock().len(), STORAGE_DESCRIPTORS_RESERVED);
    }

    #[test]
    fn an_empty_reserve_and_other_errors_end_it() {
        let reserved = Mutex::new(Vec::new());
        let error = with(&reserved, || Err::<(), _>(Errno::MFILE.into())).expect_err("nothing is left");
        assert!(is_out_of_descriptors(&error));
        let error = with(&reserved, || Err::<(), _>(Errno::ACCESS.into())).expect_err("no right to");
        assert!(!is_out_of_descriptors(&error));
    }
}
