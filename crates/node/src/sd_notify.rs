//! Telling the service manager how the process is (sd_notify(3)): one datagram for each change, to the socket that it names
//! in `NOTIFY_SOCKET`. Where there is none, nothing is sent.
//!
//! A process that can't tell goes on: whoever waits for it finds out by their own timeout, and the log says why.

use std::{
    env,
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

/// The service manager, if one listens. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct ServiceManager {
    socket: Option<Arc<(UnixDatagram, SocketAddr)>>,
    watchdog: Option<Duration>,
    is_ready: Arc<AtomicBool>,
}

impl ServiceManager {
    /// As the process's environment says: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`.
    #[must_use]
    pub fn of_environment() -> Self {
        let Some(name) = env::var_os("NOTIFY_SOCKET") else { return Self::default() };
        let (usec, pid) = (env::var("WATCHDOG_USEC").ok(), env::var("WATCHDOG_PID").ok());
        match open(&name) {
            Ok(socket) => Self {
                socket: Some(Arc::new(socket)),
                watchdog: watchdog(usec.as_deref(), pid.as_deref(), std::process::id()),
                is_ready: Arc::default(),
            },
            Err(error) => {
                tracing::warn!(%error, socket = ?name, "the service manager can't be told of anything");
                Self::default()
            }
        }
    }

    /// Starting is over.
    pub fn ready(&self) {
        self.is_ready.store(true, Ordering::Relaxed);
        self.send("READY=1\nSTATUS=ready");
    }

    /// What was asked for by a signal begins. Nothing is told before the process was ready: that it has reloaded would be
    /// taken for that.
    pub fn reloading(&self) {
        if !self.is_ready.load(Ordering::Relaxed) {
            return;
        }
        let now = clock_gettime(ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// What was asked for by a signal is over.
    pub fn reloaded(&self) {
        if self.is_ready.load(Ordering::Relaxed) {
            self.ready();
        }
    }

    /// Stopping begins.
    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=stopping");
    }

    /// How it is, in a few words for people.
    pub fn status(&self, words: &str) {
        // A line break would begin another message.
        self.send(&format!("STATUS={}", words.replace('\n', " ")));
    }

    /// It isn't stuck.
    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// How often [`ServiceManager::alive`] is due: twice as often as the manager loses patience. `None`: nobody watches.
    #[must_use]
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.map(|patience| patience / 2)
    }

    fn send(&self, message: &str) {
        let Some(socket) = &self.socket else { return };
        let (socket, address) = &**socket;
        if let Err(error) = socket.send_to_addr(message.as_bytes(), address) {
            tracing::warn!(%error, "the service manager couldn't be told");
        }
    }
}

fn open(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "expected a path or @NAME")),
    };
    let socket = UnixDatagram::unbound()?;
    // A manager that doesn't read must not hold anything up.
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

/// The manager's patience, if it is with this very process.
fn watchdog(usec: Option<&str>, pid: Option<&str>, own: u32) -> Option<Duration> {
    let is_meant = pid.is_none_or(|pid| pid.parse() == Ok(own));
    let usec: u64 = usec?.parse().ok()?;
    (is_meant && usec > 0).then(|| Duration::from_micros(usec))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn listening() -> (tempfile::TempDir, UnixDatagram, ServiceManager) {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let socket = Some(Arc::new(open(path.as_os_str()).unwrap()));
        (home, manager, ServiceManager { socket, ..ServiceManager::default() })
    }

    fn next(manager: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn each_change_is_one_datagram() {
        let (_home, manager, told) = listening();
        told.reloading();
        told.reloaded();
        told.ready();
        assert_eq!(next(&manager), "READY=1\nSTATUS=ready", "and nothing before that");
        told.reloading();
        let reloading = next(&manager);
        let usec = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(usec.parse::<u64>().unwrap() > 0);
        told.reloaded();
        assert_eq!(next(&manager), "READY=1\nSTATUS=ready");
        told.status("no leader\nREADY=1");
        assert_eq!(next(&manager), "STATUS=no leader READY=1");
        told.alive();
        assert_eq!(next(&manager), "WATCHDOG=1");
        told.stopping();
        assert_eq!(next(&manager), "STOPPING=1\nSTATUS=stopping");
    }

    #[test]
    fn an_abstract_name_is_reached_and_other_names_are_refused() {
        let name = format!("haltline-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        let socket = open(OsStr::new(&format!("@{name}"))).unwrap();
        let told = ServiceManager { socket: Some(Arc::new(socket)), ..ServiceManager::default() };
        told.alive();
        assert_eq!(next(&manager), "WATCHDOG=1");
        assert!(open(OsStr::new("vsock:2:1234")).is_err());
        ServiceManager::default().ready();
    }

    #[test]
    fn the_watchdog_watches_one_process() {
        let second = Some(Duration::from_secs(1));
        assert_eq!(watchdog(Some("1000000"), None, 7), second);
        assert_eq!(watchdog(Some("1000000"), Some("7"), 7), second);
        assert_eq!(watchdog(Some("1000000"), Some("8"), 7), None);
        assert_eq!(watchdog(Some("0"), None, 7), None);
        assert_eq!(watchdog(Some("soon"), None, 7), None);
        assert_eq!(watchdog(None, None, 7), None);
    }
}
