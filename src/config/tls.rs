//! What the settings say of TLS: certificates with their keys, tickets, and who may connect to the API's address.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::RootCertStore;

use crate::tls::{Certificate, TicketKeys, TlsTerms};

use super::{ConfigError, Values, keys, wrong};

/// Both ports', as far as they speak TLS.
#[derive(Clone, Debug)]
pub struct TlsPorts {
    pub clients: TlsTerms,
    /// `None`: the API's address speaks plain text, or there is none.
    pub api: Option<TlsTerms>,
    /// The certificates' files, in the order of the certificates.
    pub certificate_files: Vec<String>,
    /// All files that this was read from.
    pub files: Vec<PathBuf>,
}

/// `None` where no certificate is named.
pub(super) fn settings(values: &Values) -> Result<Option<TlsPorts>, ConfigError> {
    let certificate_files = values.list("tls_cert_file");
    let api = api_terms(values)?;
    if certificate_files.is_empty() {
        let others = ["tls_key_file", "tls_ticket_keys_file", "api_tls_client_ca_file"];
        let alone = others.into_iter().find(|name| values.optional(name).is_some());
        let alone = alone.or(api.is_some().then_some("api_tls"));
        return alone
            .map_or(Ok(None), |name| Err(wrong(name, "needs a certificate: set tls_cert_file and tls_key_file")));
    }
    let clients = TlsTerms {
        certificates: certificates(values, &certificate_files)?,
        ticket_keys: ticket_keys(values)?,
        client_authorities: None,
    };
    let api = api.map(|client_authorities| TlsTerms { client_authorities, ..clients.clone() });
    let files = keys::TLS.iter().filter(|name| keys::HELD_IN_FILES.contains(name)).flat_map(|name| values.list(name));
    Ok(Some(TlsPorts { clients, api, certificate_files, files: files.map(PathBuf::from).collect() }))
}

fn certificates(values: &Values, files: &[String]) -> Result<Vec<Certificate>, ConfigError> {
    let key_files = values.list("tls_key_file");
    if key_files.len() != files.len() {
        let reason = format!(
            "names {} and tls_cert_file {}: each certificate needs its key, at the same place in the list",
            counted(key_files.len()),
            counted(files.len())
        );
        return Err(wrong("tls_key_file", reason));
    }
    let (chains, private_keys) = (values.contents("tls_cert_file")?, values.contents("tls_key_file")?);
    let now = SystemTime::now();
    let pairs = files.iter().zip(chains).zip(key_files.iter().zip(private_keys));
    pairs
        .map(|((file, chain), (key_file, key))| {
            Certificate::from_pem(chain, key, now).map_err(|error| match error.is_about_key() {
                true => wrong("tls_key_file", format!("`{key_file}` {error}")),
                false => wrong("tls_cert_file", format!("`{file}` {error}")),
            })
        })
        .collect()
}

fn counted(files: usize) -> String {
    if files == 1 { "1 file".to_owned() } else { format!("{files} files") }
}

fn ticket_keys(values: &Values) -> Result<Option<Arc<TicketKeys>>, ConfigError> {
    let name = "tls_ticket_keys_file";
    let Some(text) = values.content(name)? else { return Ok(None) };
    let keys = TicketKeys::parse(text).map_err(|error| wrong(name, format!("`{}` {error}", values.text(name))))?;
    Ok(Some(Arc::new(keys)))
}

type Authorities = Option<Arc<RootCertStore>>;

/// Whose certificates the API's address wants. `None`: it speaks plain text.
fn api_terms(values: &Values) -> Result<Option<Authorities>, ConfigError> {
    let name = "api_tls_client_ca_file";
    let authorities = values
        .content(name)?
        .map(|pem| TlsTerms::authorities(pem).map_err(|error| wrong(name, format!("`{}` {error}", values.text(name)))));
    let authorities = authorities.transpose()?;
    let speaks_tls = values.truth("api_tls")? || authorities.is_some();
    if speaks_tls && values.text("api_listen").is_empty() {
        let name = if authorities.is_some() { name } else { "api_tls" };
        return Err(wrong(name, "is about the API's own address: set api_listen"));
    }
    Ok(speaks_tls.then_some(authorities))
}
