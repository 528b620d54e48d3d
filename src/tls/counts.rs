//! `TlsCounts`: how handshakes ended. Cores share them, as they share the counts of connections: once per handshake.

use std::sync::atomic::{AtomicU64, Ordering};

use rustls::{Error, HandshakeKind, PeerIncompatible, ProtocolVersion};

/// What was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    Tls12,
    Tls13,
}

impl TlsVersion {
    pub const ALL: [TlsVersion; 2] = [TlsVersion::Tls12, TlsVersion::Tls13];

    pub fn label(self) -> &'static str {
        match self {
            TlsVersion::Tls12 => "1.2",
            TlsVersion::Tls13 => "1.3",
        }
    }

    pub(super) fn of(version: Option<ProtocolVersion>) -> TlsVersion {
        if version == Some(ProtocolVersion::TLSv1_2) { TlsVersion::Tls12 } else { TlsVersion::Tls13 }
    }
}

/// Why a peer was not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsRefusal {
    /// It sent a request as it is.
    PlainHttp,
    /// It knows no version from 1.2.
    Version,
    /// It wants another protocol than HTTP/1.1.
    Protocol,
    /// There are no ciphers, curves or signatures that both know.
    NothingInCommon,
    /// It has not shown a certificate that is wanted, or one that is not.
    Certificate,
    /// It said that something is wrong: often that it does not know who signed the certificate.
    Alert,
    /// It sent what is no message, or not at this time.
    Malformed,
    /// It went away, or had its time, within the handshake.
    Unfinished,
}

impl TlsRefusal {
    pub const ALL: [TlsRefusal; 8] = [
        TlsRefusal::PlainHttp,
        TlsRefusal::Version,
        TlsRefusal::Protocol,
        TlsRefusal::NothingInCommon,
        TlsRefusal::Certificate,
        TlsRefusal::Alert,
        TlsRefusal::Malformed,
        TlsRefusal::Unfinished,
    ];

    pub fn label(self) -> &'static str {
        match self {
            TlsRefusal::PlainHttp => "plain_http",
            TlsRefusal::Version => "version",
            TlsRefusal::Protocol => "protocol",
            TlsRefusal::NothingInCommon => "nothing_in_common",
            TlsRefusal::Certificate => "certificate",
            TlsRefusal::Alert => "alert",
            TlsRefusal::Malformed => "malformed",
            TlsRefusal::Unfinished => "unfinished",
        }
    }

    pub(super) fn of(error: &Error) -> TlsRefusal {
        use PeerIncompatible::{
            SignatureAlgorithmsExtensionRequired, SupportedVersionsExtensionRequired, Tls12NotOffered,
            Tls12NotOfferedOrEnabled,
        };
        match error {
            Error::PeerIncompatible(
                // Who is older than 1.2 knows no such lists.
                SignatureAlgorithmsExtensionRequired
                | SupportedVersionsExtensionRequired
                | Tls12NotOffered
                | Tls12NotOfferedOrEnabled,
            ) => TlsRefusal::Version,
            Error::PeerIncompatible(_) => TlsRefusal::NothingInCommon,
            Error::NoApplicationProtocol => TlsRefusal::Protocol,
            Error::NoCertificatesPresented | Error::InvalidCertificate(_) => TlsRefusal::Certificate,
            Error::AlertReceived(_) => TlsRefusal::Alert,
            _ => TlsRefusal::Malformed,
        }
    }
}

/// Handshakes since the start.
#[derive(Debug, Default)]
pub struct TlsCounts {
    /// By version: in full, resumed.
    done: [[AtomicU64; 2]; 2],
    refused: [AtomicU64; TlsRefusal::ALL.len()],
}

impl TlsCounts {
    pub(super) fn done(&self, version: TlsVersion, kind: Option<HandshakeKind>) {
        let Some([full, resumed]) = self.done.get(version as usize) else { return };
        let count = if kind == Some(HandshakeKind::Resumed) { resumed } else { full };
        count.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refused(&self, refusal: TlsRefusal) {
        if let Some(count) = self.refused.get(refusal as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Version, whether it was a `full` one or `resumed`, and how many.
    pub fn all_done(&self) -> impl Iterator<Item = (TlsVersion, &'static str, u64)> {
        TlsVersion::ALL.into_iter().zip(&self.done).flat_map(|(version, counts)| {
            ["full", "resumed"]
                .into_iter()
                .zip(counts)
                .map(move |(kind, count)| (version, kind, count.load(Ordering::Relaxed)))
        })
    }

    pub fn all_refused(&self) -> impl Iterator<Item = (TlsRefusal, u64)> {
        TlsRefusal::ALL.into_iter().zip(&self.refused).map(|(refusal, count)| (refusal, count.load(Ordering::Relaxed)))
    }
}
