"""Explain why a server could not be reached: what is wrong with its certificate, or the error of the connection."""

import ssl
from typing import Final

_OWN_CA: Final = "set SSL_CERT_FILE to a PEM file with the certificate of its issuer"
_REMEDIES: Final = {
    9: "check the clock of this machine",  # not valid yet
    10: "renew it, or check the clock of this machine",  # expired
    62: "use a host name that the certificate has",  # X509_V_ERR_HOSTNAME_MISMATCH
    64: "use an address that the certificate has",  # X509_V_ERR_IP_ADDRESS_MISMATCH
}
"""Remedies by OpenSSL's verification errors. In all other cases the issuer is unknown."""


def explain_certificate(error: BaseException | None) -> str | None:
    """Explain a TLS failure among the causes of an error, as a clause; return None if there is none."""
    while error is not None:
        match error:
            case ssl.SSLCertVerificationError():
                remedy = _REMEDIES.get(error.verify_code, _OWN_CA)
                return f"its certificate was refused ({error.verify_message.rstrip('.')}): {remedy}"
            case ssl.SSLError(reason="WRONG_VERSION_NUMBER" | "RECORD_LAYER_FAILURE"):
                return "it does not use TLS on this port: write http:// instead of https://"
            case ssl.SSLError():
                return f"TLS failed ({error.reason or type(error).__name__})"
        error = error.__cause__ or error.__context__
    return None
