//! Processor time of processes, from `/proc/<pid>/stat`.
//!
//! The kernel counts it in ticks of 10 ms, so a figure is good for runs that burn seconds, and useless for single calls.

use std::{io, time::Duration};

use crate::failure::Failure;

/// Ticks a second that `/proc` counts in; fixed by Linux's ABI on every platform that we build for.
const TICKS_PER_SECOND: u64 = 100;
/// Where `utime` and `stime` stand among the fields that follow the command's name (`man proc_pid_stat`: 14 and 15).
const UTIME_AFTER_NAME: usize = 11;

/// User and system time that these processes have used so far, all their threads together.
///
/// # Errors
/// [`Failure::Local`] if one is gone.
pub(crate) fn used_by(pids: &[u32]) -> Result<Duration, Failure> {
    let mut ticks = 0;
    for pid in pids {
        let path = format!("/proc/{pid}/stat");
        let text = std::fs::read_to_string(&path)
            .map_err(|source| Failure::Local { what: format!("read {path}"), source })?;
        ticks += ticks_of(&text).ok_or_else(|| Failure::Local {
            what: format!("read {path}"),
            source: io::Error::new(io::ErrorKind::InvalidData, "no utime and stime where they should be"),
        })?;
    }
    Ok(Duration::from_millis(ticks * (1_000 / TICKS_PER_SECOND)))
}

/// The name is in parentheses and may hold anything, so fields count from the last closing one.
fn ticks_of(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(UTIME_AFTER_NAME);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn user_and_system_time_are_read_past_a_name_with_spaces() {
        let stat = "42 (a ) name) S 1 2 3 4 5 6 7 8 9 10 120 30 0 0 20 0";
        assert_eq!(ticks_of(stat), Some(150));
        assert_eq!(ticks_of("42 (cut"), None);
    }

    #[test]
    fn this_process_has_a_figure_and_a_missing_one_is_an_error() {
        used_by(&[std::process::id()]).unwrap();
        assert!(used_by(&[u32::MAX]).unwrap_err().to_string().contains("/proc/4294967295/stat"));
    }
}
