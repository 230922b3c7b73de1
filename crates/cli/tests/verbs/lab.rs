//! A cluster of one node in a directory of its own, gone with the test.

use std::{
    fs::File,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::BINARY;

/// How long a node may take to found its cluster on a busy machine.
const START_MAX: Duration = Duration::from_secs(60);

pub(crate) struct Lab {
    home: tempfile::TempDir,
    node: Child,
}

impl Lab {
    /// A founded cluster whose first admin is ada.
    pub(crate) fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("cluster");
        let port = free_port().to_string();
        let made = command(home.path())
            .args(["init", "--node", "127.0.0.1", "--admin", "ada", "--port", &port, "--dir"])
            .arg(&directory)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let log = File::create(home.path().join("node.log")).unwrap();
        let node = command(home.path())
            .args(["node", "--until-stdin-closes", "--config"])
            .arg(directory.join("node-1/node.toml"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let lab = Self { home, node };
        lab.wait_until_founded();
        lab
    }

    /// Where everything is.
    pub(crate) fn directory(&self) -> PathBuf {
        self.home.path().join("cluster")
    }

    /// `haltline`, as ada, with nobody at a terminal.
    pub(crate) fn haltline(&self) -> Command {
        let mut command = command(self.home.path());
        command.env("HALTLINE_IDENTITY", self.directory().join("admin")).stdin(Stdio::null());
        command
    }

    /// Asks again and again, as long as a node may take to start.
    pub(crate) fn wait_for(&self, what: &str, is_so: impl Fn() -> bool) {
        let began = Instant::now();
        while !is_so() {
            assert!(began.elapsed() < START_MAX, "waited in vain for {what}");
        }
    }

    fn wait_until_founded(&self) {
        let began = Instant::now();
        loop {
            let asked = self.haltline().args(["operator", "list"]).output().unwrap();
            if asked.status.success() {
                return;
            }
            let log = || std::fs::read_to_string(self.home.path().join("node.log")).unwrap_or_default();
            assert!(began.elapsed() < START_MAX, "{}\n{}", String::from_utf8_lossy(&asked.stderr), log());
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.node.kill();
        let _ = self.node.wait();
    }
}

/// `haltline` with nothing of this process's own environment that would steer it.
pub(crate) fn command(home: &Path) -> Command {
    let mut command = Command::new(BINARY);
    let ours = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HALTLINE_"));
    for (name, _) in ours {
        command.env_remove(name);
    }
    command.current_dir(home).env("COLUMNS", "100").env("NO_COLOR", "1");
    command
}

/// The first of five ports in a row that nobody listens on.
pub(crate) fn free_port() -> u16 {
    free_ports(5)
}

/// The first of so many ports in a row that nobody listens on.
pub(crate) fn free_ports(number: u16) -> u16 {
    let free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let seed =
        std::process::id() as u16 ^ std::thread::current().name().map_or(0, |name| name.len() as u16 * 97);
    (0..2_000u16)
        .map(|offset| 12_000 + (seed.wrapping_mul(31).wrapping_add(offset * 5)) % 8_000)
        .find(|port| (*port..port + number).all(free))
        .expect("free ports in a row")
}
