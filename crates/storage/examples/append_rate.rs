//! How fast the log takes records on this disk: one at a time, and many outstanding.
//!
//! `cargo run --release -p haltline-storage --example append_rate -- DIR [SECONDS]`
//!
//! With one outstanding, the disk's sync is all there is. The same is measured on a bare file, growing and zeroed ahead,
//! as the yardstick.

use std::{
    env,
    error::Error,
    path::Path,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use bytes::Bytes;
use haltline_core::LogIndex;
use haltline_storage::{Disk as _, LogOptions, RaftLog as _, RealDisk, Record, SegmentedLog};

const PAYLOAD_BYTES: usize = 128;
/// A record with its header, as the log writes it.
const FRAME_BYTES: u64 = 160;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let dir = arguments.next().ok_or("usage: append_rate DIR [SECONDS]")?;
    let seconds = arguments.next().map_or(Ok(3), |text| text.parse())?;
    let (dir, span) = (Path::new(&dir), Duration::from_secs(seconds));
    report("bare file, growing", 1, bare_file(dir, span, 0)?);
    report("bare file, zeroed ahead", 1, bare_file(dir, span, 64 * 1_024 * 1_024)?);
    for outstanding in [1, 8, 64, 512] {
        report("log", outstanding, log(dir, span, outstanding)?);
    }
    Ok(())
}

/// Prints appends per second and the time that one took, in µs.
fn report(what: &str, outstanding: usize, mut micros: Vec<u128>) {
    micros.sort_unstable();
    let total: u128 = micros.iter().sum();
    let at = |permille: usize| micros[(micros.len() - 1) * permille / 1_000];
    let rate = micros.len() as u128 * outstanding as u128 * 1_000_000 / total.max(1);
    println!("{what}, {outstanding} outstanding: {rate} appends/s, p50 {} µs, p99 {} µs", at(500), at(990));
}

fn bare_file(dir: &Path, span: Duration, zeroed: u64) -> Result<Vec<u128>, Box<dyn Error>> {
    let path = dir.join(format!("bare-{zeroed}"));
    let file = RealDisk.create(&path)?;
    file.preallocate(zeroed)?;
    file.sync_data()?;
    let (mut micros, begun) = (Vec::new(), Instant::now());
    while begun.elapsed() < span {
        let at = Instant::now();
        file.write_at(&[7; FRAME_BYTES as usize], micros.len() as u64 * FRAME_BYTES)?;
        file.sync_data()?;
        micros.push(at.elapsed().as_micros());
    }
    RealDisk.remove(&path)?;
    Ok(micros)
}

fn log(dir: &Path, span: Duration, outstanding: usize) -> Result<Vec<u128>, Box<dyn Error>> {
    let log_dir = dir.join(format!("log-{outstanding}"));
    let log = SegmentedLog::open(Arc::new(RealDisk), &log_dir, LogOptions::default())?;
    let (sender, receiver) = mpsc::sync_channel(outstanding);
    let mut next = LogIndex(0);
    let mut give = || {
        let (at, sender) = (Instant::now(), sender.clone());
        let record = Record { index: next, payload: Bytes::from_static(&[7; PAYLOAD_BYTES]) };
        next = next.next();
        log.append(
            vec![record],
            Box::new(move |result| {
                // The receiver is gone only when the measurement is over.
                drop(sender.try_send(result.map(|()| at.elapsed().as_micros())));
            }),
        );
    };
    (0..outstanding).for_each(|_| give());
    let (mut micros, begun) = (Vec::new(), Instant::now());
    while begun.elapsed() < span {
        micros.push(receiver.recv()??);
        give();
    }
    Ok(micros)
}
