//! The names of what registries and the network answer.

use oci_client::errors::{DigestError, OciDistributionError, OciErrorCode};

use super::Limits;
use super::error::ImageError;

/// What was asked when it went wrong.
pub(super) struct Asked<'a> {
    pub(super) registry: String,
    pub(super) reference: &'a str,
    /// Whether a login was sent along.
    pub(super) known: bool,
    pub(super) limits: &'a Limits,
}

impl Asked<'_> {
    /// Gives one of the library's errors its name.
    pub(super) fn trouble(self, error: OciDistributionError) -> ImageError {
        let (registry, reference) = (self.registry, self.reference.to_owned());
        let login = |registry, reference| {
            if self.known {
                ImageError::LoginRefused { registry, reference }
            } else {
                ImageError::LoginNeeded { registry, reference }
            }
        };
        let failed = |registry, reference, reason: &str| {
            let reason = reason.chars().take(300).flat_map(char::escape_debug).collect();
            ImageError::Registry { registry, reference, reason }
        };
        use OciDistributionError as E;
        match error {
            E::UnauthorizedError { .. } | E::AuthenticationFailure(_) | E::ServerError { code: 401, .. } => {
                login(registry, reference)
            }
            E::ServerError { code: 403, .. } => ImageError::Forbidden { registry, reference },
            E::ServerError { code: 404, .. } | E::ImageManifestNotFoundError(_) => {
                ImageError::NotFound { registry, reference }
            }
            E::ServerError { code: 429, .. } => ImageError::RateLimited { registry },
            E::ServerError { code, message, .. } => {
                failed(registry, reference, &format!("status {code}: {}", message.trim()))
            }
            E::RegistryError { envelope, .. } => match envelope.errors.first().map(|e| &e.code) {
                Some(
                    OciErrorCode::ManifestUnknown
                    | OciErrorCode::NameUnknown
                    | OciErrorCode::BlobUnknown
                    | OciErrorCode::ManifestBlobUnknown
                    | OciErrorCode::NotFound,
                ) => ImageError::NotFound { registry, reference },
                Some(OciErrorCode::Unauthorized) => login(registry, reference),
                Some(OciErrorCode::Denied) => ImageError::Forbidden { registry, reference },
                Some(OciErrorCode::Toomanyrequests) => ImageError::RateLimited { registry },
                _ => failed(registry, reference, &envelope.to_string()),
            },
            E::DigestError(DigestError::VerificationError { expected, actual }) => {
                let what = format!("answer for `{reference}`");
                ImageError::DigestMismatch { what, expected, found: actual }
            }
            // Addresses may hold signatures, so they are left out.
            E::RequestError(e) => match e.without_url() {
                e if e.is_timeout() => {
                    let seconds =
                        if e.is_connect() { self.limits.connect } else { self.limits.answer }.as_secs();
                    ImageError::Timeout { registry, seconds }
                }
                e if e.is_connect() => ImageError::Unreachable { registry, reason: deepest(&e) },
                e => failed(registry, reference, &deepest(&e)),
            },
            other => failed(registry, reference, &other.to_string()),
        }
    }
}

/// The innermost cause, which says what the network did.
pub(crate) fn deepest(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
