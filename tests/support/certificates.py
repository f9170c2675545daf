"""A certificate of the test's own, signed by itself."""

import subprocess
from pathlib import Path


def make_certificate(folder: Path, *names: str) -> tuple[Path, Path]:
    """(certificate, key) for `names`: addresses and DNS names; the certificate is its own authority."""
    folder.mkdir(parents=True, exist_ok=True)
    certificate, key = folder / "cert.pem", folder / "key.pem"
    kinds = [f"{'IP' if name[0].isdigit() else 'DNS'}:{name}" for name in names]
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += ["-days", "2", "-subj", "/CN=compute-test", "-addext", f"subjectAltName={','.join(kinds)}"]
    command += ["-out", str(certificate), "-keyout", str(key)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key
