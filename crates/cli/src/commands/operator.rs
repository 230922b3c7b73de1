//! `haltline operator`: how people come, change and go.
//!
//! Private keys are made where their owner is, and stay there. What travels is a request (two public keys with proofs) one
//! way, and a certificate the other.

use std::path::{Path, PathBuf};

use haltline_core::{
    command::{Command, PersonAdd, PersonRemove, PersonUpdate, RoleBinding},
    ids::PersonId,
};
use haltline_pki::{IssuedPerson, PendingPerson, PersonRequest};
use haltline_wire::v1::{self, person_service_client::PersonServiceClient};
use serde_json::{Value, json};

use super::{Done, Session, resource};
use crate::{
    args::{Global, ListArgs, people::OperatorCommand},
    client::{Client, all_pages, identity_directory},
    exit::Exit,
    failure::Failure,
    output::{Render, Screen, page::Page, table::Table, table::Tone, value::hex},
};

/// Carries out one of them.
pub(super) async fn run(command: OperatorCommand, global: &Global, screen: Screen) -> Result<Exit, Failure> {
    match command {
        OperatorCommand::Request(args) => request(&args.name, &identity_directory(global), screen),
        OperatorCommand::Accept(args) => accept(&args.certificate, &identity_directory(global), screen),
        OperatorCommand::Add(args) => {
            let session = Session::open(global, screen)?;
            match (args.request, args.name, args.identity_out) {
                (Some(file), _, _) => add_from_request(&session, &file, args.out, args.roles).await,
                (None, Some(name), Some(directory)) => {
                    add_at_once(&session, &name, &directory, args.roles).await
                }
                (None, _, _) => Err(Failure::usage("whom to enrol? Neither --request nor a name is given")
                    .hint("add --request FILE, or NAME --identity-out DIR")),
            }
        }
        OperatorCommand::Certify(args) => {
            let session = Session::open(global, screen)?;
            let request = load_request(&args.request)?;
            let out = args.out.unwrap_or_else(|| certificate_file(request.name()));
            let issued = issue(&session.client, &request).await?;
            write_certificate(&session, &request, &issued, &out)
        }
        OperatorCommand::List(args) => list(&Session::open(global, screen)?, args).await,
        OperatorCommand::Update(args) => {
            let update = PersonUpdate {
                person: args.name,
                tls_keys: None,
                signing_key: None,
                roles: Some(args.roles),
            };
            Session::open(global, screen)?.carry_out(Command::PersonUpdate(update)).await
        }
        OperatorCommand::Remove { name } => {
            let remove = Command::PersonRemove(PersonRemove { person: name });
            Session::open(global, screen)?.carry_out(remove).await
        }
    }
}

/// Makes keys where their owner is.
fn request(name: &PersonId, directory: &Path, screen: Screen) -> Result<Exit, Failure> {
    let pending = PendingPerson::create(name)?;
    pending.save(directory)?;
    let next = format!(
        "Give {} to an admin, who runs: haltline operator add --request request.json --role ROLE",
        directory.join("request.json").display()
    );
    let text = format!("Made the keys of {name} in {}; they never leave it.", directory.display());
    screen.print(&Note {
        text,
        next: Some(next),
        fields: vec![("identity", directory.display().to_string())],
    })?;
    Ok(Exit::Done)
}

/// Joins a certificate to the keys.
fn accept(certificate: &Path, directory: &Path, screen: Screen) -> Result<Exit, Failure> {
    let pending = PendingPerson::load(directory)?;
    let issued = IssuedPerson::load(certificate)?;
    let identity = pending.complete(&issued)?;
    identity.save_public(directory)?;
    let text = format!(
        "You are {} of cluster {}. The trust bundle's hash is {}: compare it with your admin's.",
        identity.person(),
        identity.bundle().cluster(),
        identity.bundle().hash()
    );
    let next = Some(format!("Try: haltline --identity {} status", directory.display()));
    screen.print(&Note { text, next, fields: vec![("identity", directory.display().to_string())] })?;
    Ok(Exit::Done)
}

async fn add_from_request(
    session: &Session,
    file: &Path,
    out: Option<PathBuf>,
    roles: Vec<RoleBinding>,
) -> Result<Exit, Failure> {
    let request = load_request(file)?;
    let out = out.unwrap_or_else(|| certificate_file(request.name()));
    refuse_to_overwrite(&out)?;
    let done = enrol(&session.client, &request, roles).await?;
    session.screen.print(&done)?;
    if done.pending().is_some() {
        session.screen.remark(&format!(
            "Once it is approved: haltline operator certify --request {} --out {}",
            file.display(),
            out.display()
        ));
        return Ok(done.exit());
    }
    let issued = issue(&session.client, &request).await?;
    write_certificate(session, &request, &issued, &out)
}

async fn add_at_once(
    session: &Session,
    name: &PersonId,
    directory: &Path,
    roles: Vec<RoleBinding>,
) -> Result<Exit, Failure> {
    let pending = keys_of(name, directory)?;
    let done = enrol(&session.client, pending.request(), roles).await?;
    session.screen.print(&done)?;
    if done.pending().is_some() {
        let (request, certificate) = (directory.join("request.json"), directory.join("certificate.json"));
        session.screen.remark(&format!(
            "Once it is approved: haltline operator certify --request {} --out {} && haltline --identity {} operator accept {}",
            request.display(),
            certificate.display(),
            directory.display(),
            certificate.display()
        ));
        return Ok(done.exit());
    }
    let issued = issue(&session.client, pending.request()).await?;
    pending.complete(&issued)?.save_public(directory)?;
    session.screen.remark(&format!("The identity of {name} is in {}.", directory.display()));
    Ok(Exit::Done)
}

/// New keys, or those that an earlier try left behind. They are saved before they are registered: keys that the cluster
/// knows and nobody has would be worse than the reverse.
fn keys_of(name: &PersonId, directory: &Path) -> Result<PendingPerson, Failure> {
    let is_waiting = directory.join("request.json").exists() && !directory.join("identity.json").exists();
    if is_waiting {
        let pending = PendingPerson::load(directory)?;
        if pending.request().name() == name {
            return Ok(pending);
        }
        let holds = pending.request().name().clone();
        return Err(Failure::usage(format!("{} holds the keys of {holds}", directory.display()))
            .hint("name another directory with --identity-out"));
    }
    let pending = PendingPerson::create(name)?;
    pending.save(directory)?;
    Ok(pending)
}

/// Registers the keys of a request under its name.
pub(crate) async fn enrol(
    client: &Client,
    request: &PersonRequest,
    roles: Vec<RoleBinding>,
) -> Result<Done, Failure> {
    let verified = request.verify()?;
    let add = PersonAdd {
        person: verified.name,
        tls_keys: vec![verified.tls_key],
        signing_key: verified.signing_key,
        roles,
    };
    Done::read(client.submit(Command::PersonAdd(add)).await?)
}

/// Fetches the certificate of an enrolled person.
pub(crate) async fn issue(client: &Client, request: &PersonRequest) -> Result<IssuedPerson, Failure> {
    let answer = client
        .call("fetching the certificate", |channel| {
            let request = v1::IssueCertificateRequest { certificate_request: request.to_json() };
            async move { PersonServiceClient::new(channel).issue_certificate(request).await }
        })
        .await?;
    Ok(IssuedPerson::from_json(&answer.issued_certificate)?)
}

fn load_request(file: &Path) -> Result<PersonRequest, Failure> {
    let request = PersonRequest::load(file)?;
    request.verify()?;
    Ok(request)
}

fn certificate_file(name: &PersonId) -> PathBuf {
    PathBuf::from(format!("{name}.certificate.json"))
}

fn refuse_to_overwrite(out: &Path) -> Result<(), Failure> {
    if out.exists() {
        return Err(Failure::usage(format!("{} exists already", out.display()))
            .hint("name another file with --out, or move that one away"));
    }
    Ok(())
}

fn write_certificate(
    session: &Session,
    request: &PersonRequest,
    issued: &IssuedPerson,
    out: &Path,
) -> Result<Exit, Failure> {
    refuse_to_overwrite(out)?;
    issued.save(out)?;
    let text =
        format!("Wrote the certificate of {} to {}; nothing in it is secret.", request.name(), out.display());
    let next = format!("{} goes on with: haltline operator accept {}", request.name(), out.display());
    session.show(&Note {
        text,
        next: Some(next),
        fields: vec![
            ("certificate", out.display().to_string()),
            ("trust_bundle_hash", issued.bundle().hash().to_string()),
        ],
    })
}

async fn list(session: &Session, args: ListArgs) -> Result<Exit, Failure> {
    let listed = all_pages(args.limit, |page_size, page_token| async move {
        let request = v1::ListPeopleRequest { page_size, page_token };
        let answer = session
            .client
            .call("listing people", |channel| {
                let request = request.clone();
                async move { PersonServiceClient::new(channel).list_people(request).await }
            })
            .await?;
        Ok((answer.people, answer.next_page_token))
    })
    .await?;
    session.show(&List(listed.items))?;
    session.remark_if_cut(listed.more, args.limit);
    Ok(Exit::Done)
}

/// Something that was done on this machine.
struct Note {
    text: String,
    next: Option<String>,
    fields: Vec<(&'static str, String)>,
}

impl Render for Note {
    fn page(&self, page: &mut Page) {
        page.toned(&self.text, Tone::Good);
        if let Some(next) = &self.next {
            page.line(next);
        }
    }

    fn value(&self) -> Value {
        self.fields.iter().map(|(name, value)| ((*name).to_owned(), Value::from(value.as_str()))).collect()
    }
}

struct List(Vec<v1::Person>);

fn role_text(binding: &v1::RoleBinding) -> String {
    RoleBinding::try_from(binding.clone())
        .map_or_else(|_| "(of a newer version)".to_owned(), |binding| binding.to_string())
}

impl Render for List {
    fn page(&self, page: &mut Page) {
        let mut table = Table::default().text("NAME").text("ROLES").number("KEYS").word("ENROLLED");
        for person in &self.0 {
            table.row([
                person.name.as_str().into(),
                person.roles.iter().map(role_text).collect::<Vec<_>>().join(", ").into(),
                person.tls_keys.len().to_string().into(),
                resource::moment(person.enrolled.as_ref()).into(),
            ]);
        }
        page.table(&table, "Nobody is enrolled.");
    }

    fn value(&self) -> Value {
        let person = |person: &v1::Person| {
            json!({
                "name": person.name,
                "roles": person.roles.iter().map(role_text).collect::<Vec<_>>(),
                "tls_keys": person.tls_keys.iter().map(|key| hex(key)).collect::<Vec<_>>(),
                "signing_key": hex(&person.signing_key),
                "enrolled": resource::stamp_value(person.enrolled.as_ref()),
            })
        };
        self.0.iter().map(person).collect()
    }
}
