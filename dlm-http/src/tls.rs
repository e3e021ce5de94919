//! TLS: whom to believe, and what to tell the user when nobody can be believed.

use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use dlm_api::{Error, ErrorKind, Result, Retry, Scope};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_rustls::TlsConnector;

use crate::config::HttpConfig;

/// Makes TLS connections. The authorities of the system are read when the first one is made, because that takes
/// milliseconds which plain HTTP need not pay.
#[derive(Debug)]
pub(crate) struct Tls {
    extra: Vec<CertificateDer<'static>>,
    insecure: bool,
    config: OnceLock<Arc<ClientConfig>>,
}

impl Tls {
    pub(crate) fn new(config: &HttpConfig) -> Result<Self> {
        let mut extra = Vec::new();
        for path in &config.ca_certificates {
            extra.append(&mut read_pem(path)?);
        }
        if config.insecure {
            tracing::warn!("certificates are not checked: anybody on the way can read and change everything");
        }
        Ok(Self { extra, insecure: config.insecure, config: OnceLock::new() })
    }

    pub(crate) fn connector(&self) -> Result<TlsConnector> {
        if let Some(config) = self.config.get() {
            return Ok(TlsConnector::from(config.clone()));
        }
        // Two threads may both get here; then one of the two equal configurations is dropped.
        let config = Arc::new(self.client_config()?);
        Ok(TlsConnector::from(self.config.get_or_init(|| config).clone()))
    }

    fn client_config(&self) -> Result<ClientConfig> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|e| Error::new(ErrorKind::Unsupported, "TLS can't be set up").with_source(e))?;
        let mut config = if self.insecure {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptAny(provider))).with_no_client_auth()
        } else {
            builder.with_root_certificates(self.roots()?).with_no_client_auth()
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    fn roots(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        for certificate in &self.extra {
            roots.add(certificate.clone()).map_err(|e| {
                Error::new(ErrorKind::InvalidInput, "a given CA certificate can't be used").with_source(e)
            })?;
        }
        let native = rustls_native_certs::load_native_certs();
        for error in &native.errors {
            tracing::warn!(%error, "a CA certificate of the system can't be read");
        }
        // Old systems hold certificates that are no longer well-formed; the others are still good.
        let (_, ignored) = roots.add_parsable_certificates(native.certs);
        tracing::debug!(used = roots.len(), ignored, "CA certificates");
        if roots.is_empty() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "this system has no CA certificates: install its package of them (often ca-certificates), \
                 or name a file with --ca-certificate",
            )
            .with_scope(Scope::Download));
        }
        Ok(roots)
    }
}

fn read_pem(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bad = |message: &'static str| Error::new(ErrorKind::InvalidInput, message).with("path", path.display());
    let text = std::fs::read(path).map_err(|e| bad("cannot read the CA certificate").with_source(e))?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|e| bad("the CA certificate is not in PEM form").with_source(e))?;
    if certificates.is_empty() {
        return Err(bad("there is no certificate in PEM form in the file"));
    }
    Ok(certificates)
}

/// The name of a URL's host in the form that TLS wants.
pub(crate) fn server_name(host: &url::Host<&str>) -> Result<ServerName<'static>> {
    match host {
        url::Host::Domain(name) => ServerName::try_from((*name).to_owned()).map_err(|e| {
            Error::new(ErrorKind::InvalidInput, "the host can't be in a certificate").with("host", name).with_source(e)
        }),
        url::Host::Ipv4(address) => Ok(ServerName::IpAddress((*address).into())),
        url::Host::Ipv6(address) => Ok(ServerName::IpAddress((*address).into())),
    }
}

/// What a failed handshake means, and what to do about it.
pub(crate) fn handshake_error(error: io::Error) -> Error {
    let Some(tls) = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) else {
        return Error::network("the connection broke during the TLS handshake", error);
    };
    let (kind, message) = match tls {
        rustls::Error::InvalidCertificate(reason) => (ErrorKind::Protocol, certificate_message(reason)),
        rustls::Error::PeerIncompatible(_) => {
            (ErrorKind::Unsupported, "the server offers no TLS version or cipher that is still considered safe")
        }
        rustls::Error::AlertReceived(_) => (ErrorKind::Protocol, "the server refused the TLS handshake"),
        rustls::Error::InvalidMessage(_) => {
            (ErrorKind::Protocol, "the server does not speak TLS on this port: is it http:// in place of https://?")
        }
        _ => (ErrorKind::Protocol, "the TLS handshake failed"),
    };
    Error::new(kind, message).with_retry(Retry::Never).with_source(error)
}

fn certificate_message(reason: &CertificateError) -> &'static str {
    match reason {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the server's certificate has expired: check this machine's clock; if it is right, only the server's owner \
             can help"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet: check this machine's clock"
        }
        CertificateError::UnknownIssuer => {
            "the server's certificate is by an issuer that this system does not know: if you trust it, give its CA \
             certificate with --ca-certificate"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the server's certificate is for another host: use the name it is for, or you may be talking to somebody else"
        }
        CertificateError::Revoked => "the server's certificate was revoked by its issuer",
        _ => "the server's certificate is not acceptable",
    }
}

/// Accepts every certificate. Only for [`HttpConfig::insecure`].
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    // The signatures prove that the server has the key of the certificate it showed. They are checked even here: it costs
    // nothing, and a handshake that fails it is broken, not merely unknown.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_ca_file_is_told_with_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let new = || Tls::new(&HttpConfig::new().with_ca_certificate(&path)).unwrap_err();
        assert!(new().to_string().contains("ca.pem"), "{}", new());
        std::fs::write(&path, "no certificate").unwrap();
        assert_eq!(new().kind(), ErrorKind::InvalidInput);
    }
}
