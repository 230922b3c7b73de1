//! Back-ups and restores as a person types them, and what they see for what can't be.

use std::fs;

use crate::{lab::Lab, transcript::Transcript};

/// A word of the transcript that differs from run to run in a form that the transcript doesn't know.
fn without(text: &str, words: &[(String, &str)]) -> String {
    let steady = words.iter().fold(text.to_owned(), |text, (word, name)| text.replace(word, name));
    // How long a certificate is depends on its signature.
    let lines = steady.lines().map(|line| if line.starts_with("size  ") { "size  [bytes]" } else { line });
    lines.map(without_place).collect::<Vec<_>>().join("\n")
}

/// Where a file of differing length ends.
fn without_place(line: &str) -> String {
    let Some((before, after)) = line.split_once("is damaged at byte ") else { return line.to_owned() };
    let rest = after.trim_start_matches(|digit: char| digit.is_ascii_digit());
    format!("{before}is damaged at byte [n]{rest}")
}

/// The recipient that a key's file names.
fn recipient(lab: &Lab, file: &str) -> String {
    let text = fs::read_to_string(lab.directory().join(file)).unwrap();
    text.lines().find_map(|line| line.strip_prefix("# hlr1.")).map(|rest| format!("hlr1.{rest}")).unwrap()
}

/// What a restore refuses, and two that it carries out.
const RESTORES: &[&str] = &[
    "backup verify [dir]/damaged.backup -o json",
    "restore [dir]/a.backup --key [dir]/backup.key --dir [dir]/new --by ada --node 127.0.0.1",
    "restore [dir]/a.backup --key [dir]/other.key --dir [dir]/new --root [dir]/root --by ada --node 127.0.0.1",
    "restore [dir]/a.backup --key [dir]/backup.key --dir [dir]/root --root [dir]/root --by ada --node 127.0.0.1",
    "restore [dir]/a.backup --key [dir]/backup.key --dir [dir]/new --root [dir]/none --by ada --node 127.0.0.1",
    "restore [dir]/a.backup --key [dir]/backup.key --dir [dir]/new --root [dir]/root --by eve --node 127.0.0.1",
    "restore [dir]/a.backup --key [dir]/backup.key --dir [dir]/new --root [dir]/root --by ada --node 1=a --node b --node 2=c",
    "restore [dir]/a.backup --key [dir]/backup.key --dir [dir]/new --root [dir]/root --by ada --node x=127.0.0.1",
    "restore [dir]/a.backup --key [dir]/backup.key --dir [dir]/new --by ada --node 127.0.0.1 --keep 2=[dir]/node-1/identity",
    "restore [dir]/a.backup --key [dir]/backup.key --dir [dir]/new --by ada --node 127.0.0.1 --keep 1=[dir]/none",
    "restore [dir]/a.backup --key [dir]/backup.key --dir [dir]/new --root [dir]/root --by ada --node 127.0.0.1 --incarnation 0",
    "restore [dir]/a.backup --key [dir]/backup.key --dir [dir]/new --root [dir]/root --by ada --node 127.0.0.1 --node 127.0.0.1",
    "restore [dir]/a.backup --key [dir]/backup.key --dir [dir]/new --root [dir]/root --by ada --node 127.0.0.1",
    "restore [dir]/a.backup --key [dir]/backup.key --dir [dir]/kept --by ada --node 127.0.0.1 --keep 1=[dir]/node-1/identity -o json",
];

#[test]
fn backing_up_and_restoring() {
    let lab = Lab::start();
    let directory = lab.directory();
    let mut day = Transcript::new(&lab);
    for line in [
        "backup",
        "backup --out [dir]/a.backup",
        "backup --out [dir]/a.backup --recipient age1qqqsyqcyq5rqwzqf",
        "backup keygen --out [dir]/backup.key",
        "backup keygen --out [dir]/backup.key",
        "backup keygen --out [dir]/other.key",
        "fleet create acme",
    ] {
        day.run(line);
    }
    let (own, other) = (recipient(&lab, "backup.key"), recipient(&lab, "other.key"));
    fs::write(directory.join("recipients.txt"), format!("# the team\n{own}\n")).unwrap();
    fs::write(directory.join("nonsense.txt"), "backup.key\n").unwrap();
    for line in [
        "backup --out [dir]/a.backup --recipients-file [dir]/none.txt",
        "backup --out [dir]/a.backup --recipients-file [dir]/nonsense.txt",
        "backup --out [dir]/none/a.backup --recipients-file [dir]/recipients.txt",
        "backup --out [dir]/a.backup --recipients-file [dir]/recipients.txt",
        "backup --out [dir]/a.backup --recipients-file [dir]/recipients.txt",
        "backup --stopped-node [dir]/node-1/node.toml --out [dir]/b.backup --recipients-file [dir]/recipients.txt",
        "operator add lin --role responder --identity-out [dir]/lin",
        "operator add bob --role approver --identity-out [dir]/bob",
        "--identity [dir]/bob backup --out [dir]/b.backup --recipients-file [dir]/recipients.txt",
    ] {
        day.run(line);
    }
    let whole = fs::read(directory.join("a.backup")).unwrap();
    fs::write(directory.join("cut.backup"), &whole[..100]).unwrap();
    let mut damaged = whole;
    let at = damaged.len() - 40;
    damaged[at] ^= 1;
    fs::write(directory.join("damaged.backup"), damaged).unwrap();
    for line in [
        "backup verify [dir]/a.backup",
        "backup verify [dir]/a.backup --key [dir]/backup.key",
        "--identity [dir]/nobody backup verify [dir]/a.backup --key [dir]/backup.key",
        "backup verify [dir]/a.backup --key [dir]/other.key",
        "backup verify [dir]/a.backup --key [dir]/recipients.txt",
        "backup verify [dir]/a.backup --key [dir]/root/root.key",
        "backup verify [dir]/cut.backup",
        "backup verify [dir]/root/root.crt",
        "backup verify [dir]/none.backup",
    ] {
        day.run(line);
    }
    insta::assert_snapshot!(without(day.text(), &[(own, "[recipient]"), (other, "[other recipient]")]));
    let mut day = Transcript::new(&lab);
    RESTORES.iter().for_each(|line| day.run(line));
    let (own, other) = (recipient(&lab, "backup.key"), recipient(&lab, "other.key"));
    insta::assert_snapshot!(
        "restoring",
        without(day.text(), &[(own, "[recipient]"), (other, "[other recipient]")])
    );
}
