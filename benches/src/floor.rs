//! The least that bringing a stop to everybody can cost: a process that makes eight bytes durable and writes them to one
//! plain socket after another. No agreement, no order, no TLS, no protocol.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::failure::Failure;

pub(crate) const SYSTEM: &str = "floor";
/// What is written to each watcher.
pub(crate) const STOP: [u8; 8] = *b"halt now";
/// Between two looks for new connections.
const LOOK: Duration = Duration::from_millis(5);

/// The process, as seen from the benchmark: a line in is a stop, a byte out its acknowledgement.
pub(crate) struct Server {
    process: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    port: u16,
}

impl Server {
    pub(crate) async fn start() -> Result<Self, Failure> {
        let failed = |what: &'static str| Failure::local(what);
        let program = std::env::current_exe().map_err(failed("find this program"))?;
        let mut command = Command::new(program);
        command.arg("floor-server").stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().map_err(failed("start the floor"))?;
        let commands = process.stdin.take().expect("it is piped");
        let mut answers = BufReader::new(process.stdout.take().expect("it is piped"));
        let mut line = String::new();
        answers.read_line(&mut line).await.map_err(failed("hear the floor's port"))?;
        let port = line.trim().parse().map_err(|_| Failure::Call { system: SYSTEM, reason: line.clone() })?;
        Ok(Self { process, commands, answers, port })
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id().unwrap_or_default()
    }

    /// Stops everybody, and returns when that is durable.
    pub(crate) async fn stop_all(&mut self) -> Result<(), Failure> {
        let done = async {
            self.commands.write_all(b"\n").await?;
            self.commands.flush().await?;
            self.answers.read_u8().await
        };
        done.await.map(|_| ()).map_err(Failure::local("stop all through the floor"))
    }
}

/// The process itself: until its standard input ends.
pub(crate) fn serve() -> Result<(), Failure> {
    let failed = Failure::local("serve the floor");
    serve_until_told().map_err(failed)
}

#[allow(
    clippy::disallowed_methods,
    reason = "a thread of its own, which does nothing but wait for connections"
)]
fn serve_until_told() -> std::io::Result<()> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    println!("{}", listener.local_addr()?.port());
    listener.set_nonblocking(true)?;
    let mut file = tempfile::tempfile()?;
    let mut watchers: Vec<TcpStream> = Vec::new();
    let (told, tellings) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        while input.read_exact(&mut [0]).is_ok() && told.send(()).is_ok() {}
    });
    loop {
        match tellings.recv_timeout(LOOK) {
            Ok(()) => {
                file.write_all(&STOP)?;
                file.sync_data()?;
                std::io::stdout().write_all(&[1])?;
                std::io::stdout().flush()?;
                for watcher in &mut watchers {
                    watcher.write_all(&STOP)?;
                }
            }
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                while let Ok((watcher, _)) = listener.accept() {
                    watcher.set_nodelay(true)?;
                    watcher.set_nonblocking(false)?;
                    watchers.push(watcher);
                }
            }
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}
