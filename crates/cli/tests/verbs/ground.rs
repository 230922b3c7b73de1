//! A cluster's directories that a test may spoil: made, started or not, gone with the test.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    lab::{command, free_ports},
    transcript::steady,
};

/// How long a condition may take on a busy machine before waiting for it counts as a failure.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Ground {
    home: tempfile::TempDir,
    running: Vec<Child>,
    text: String,
}

impl Ground {
    /// Directories of a cluster of so many nodes on this machine, whose first admin is ada.
    pub(crate) fn of(nodes: u16) -> Self {
        let home = tempfile::tempdir().unwrap();
        let ground = Self { home, running: Vec::new(), text: String::new() };
        ground.init("cluster", nodes);
        ground
    }

    /// Makes another cluster's directories.
    pub(crate) fn init(&self, name: &str, nodes: u16) {
        let port = free_ports(10 * nodes).to_string();
        let mut init = command(self.home.path());
        init.args(["init", "--admin", "ada", "--port", &port, "--dir", name]);
        (0..nodes).for_each(|_| {
            init.args(["--node", "127.0.0.1"]);
        });
        let made = init.output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    /// A file or directory of the ground.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Puts text into a file.
    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    /// Says what is done between two commands.
    pub(crate) fn say(&mut self, words: &str) {
        self.text.push_str(&format!("# {words}\n"));
    }

    /// Types a line, with `[dir]` for the ground and variables before it.
    pub(crate) fn run(&mut self, line: &str, variables: &[(&str, &str)]) {
        self.run_filtered(line, variables, steady);
    }

    /// The same, of whose output only a part is kept.
    pub(crate) fn run_filtered(
        &mut self,
        line: &str,
        variables: &[(&str, &str)],
        keep: impl Fn(&str) -> String,
    ) {
        let words =
            line.split(' ').map(|word| word.replace("[dir]", &self.home.path().display().to_string()));
        let output = self.haltline().args(words).envs(variables.iter().copied()).output().unwrap();
        let out = String::from_utf8(output.stdout).unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        let code = output.status.code().map_or_else(|| "killed".to_owned(), |code| code.to_string());
        let typed: String = variables.iter().map(|(name, value)| format!("{name}={value} ")).collect();
        let shown = keep(&self.anonymous(&format!("{out}{}", without_logs(&err))));
        let typed = self.anonymous(&typed);
        self.text.push_str(&format!("$ {typed}haltline {line}\n{shown}[exit {code}]\n\n"));
    }

    /// Without what differs from run to run and that only this ground knows.
    pub(crate) fn anonymous(&self, text: &str) -> String {
        let text = text.replace(&self.home.path().display().to_string(), "[dir]");
        let words: Vec<&str> = text.split_inclusive(char::is_whitespace).collect();
        let mut shown = String::new();
        for (position, word) in words.iter().enumerate() {
            let digits = word.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(word.len());
            let before = position.checked_sub(1).map_or("", |before| words[before]).trim_start_matches('(');
            let is_days = words.get(position + 1).is_some_and(|after| after.starts_with("days"));
            match before {
                _ if digits == 0 => shown.push_str(word),
                "process " => shown.push_str(&format!("[pid]{}", &word[digits..])),
                _ if is_days => shown.push_str("[n] "),
                _ => shown.push_str(word),
            }
        }
        shown
    }

    /// `haltline` as ada, with nobody at a terminal.
    pub(crate) fn haltline(&self) -> Command {
        let mut haltline = command(self.home.path());
        haltline.env("HALTLINE_IDENTITY", self.path("cluster/admin")).stdin(Stdio::null());
        haltline
    }

    /// Starts a node, and waits until its log says this.
    pub(crate) fn start(&mut self, node: u16, until: &str) -> usize {
        self.start_with(node, until, &[])
    }

    /// The same, with variables.
    pub(crate) fn start_with(&mut self, node: u16, until: &str, variables: &[(&str, &str)]) -> usize {
        let log = File::create(self.path(&log_of(node))).unwrap();
        let started = command(self.home.path())
            .args(["node", "--until-stdin-closes", "--config"])
            .arg(self.path(&format!("cluster/node-{node}/node.toml")))
            .env("HALTLINE_LOG_FORMAT", "human")
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.running.push(started);
        self.wait_for_log(node, until);
        self.running.len() - 1
    }

    /// A node's process.
    pub(crate) fn pid(&self, started: usize) -> u32 {
        self.running[started].id()
    }

    /// What a node has logged, once that contains this.
    #[expect(clippy::disallowed_methods, reason = "there is no runtime here")]
    pub(crate) fn wait_for_log(&self, node: u16, words: &str) -> String {
        let began = Instant::now();
        loop {
            let log = fs::read_to_string(self.path(&log_of(node))).unwrap_or_default();
            if log.contains(words) {
                return log;
            }
            assert!(began.elapsed() < PATIENCE, "`{words}` isn't in the log:\n{log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Tells a line of a node's log: what comes behind its time and level.
    pub(crate) fn tell_log(&mut self, node: u16, words: &str) {
        let log = self.wait_for_log(node, words);
        let line = log.lines().rfind(|line| line.contains(words)).unwrap();
        let message = line.split_once("haltline_node").map_or(line, |(_, message)| message);
        let message = message.split_once(": ").map_or(message, |(_, message)| message);
        let shown = self.anonymous(message);
        self.text.push_str(&format!("log: {shown}\n\n"));
    }

    pub(crate) fn text(&self) -> &str {
        self.text.trim_end()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        for node in &mut self.running {
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

/// What a node told before it ended, without its log.
fn without_logs(text: &str) -> String {
    text.lines().filter(|line| !line.starts_with("{\"timestamp\"")).map(|line| format!("{line}\n")).collect()
}

fn log_of(node: u16) -> String {
    format!("node-{node}.log")
}

/// Sets a file's permission bits.
pub(crate) fn chmod(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
