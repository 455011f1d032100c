import { createHash, X509Certificate } from "node:crypto";

/** The oldest TLS that any of the programs speaks. */
export const minTlsVersion = "TLSv1.3";

/** SHA-256 of a certificate's DER form, as `sha256:` and 64 lower-case hex digits; takes DER or one PEM block. */
export function certificateFingerprint(certificate: Uint8Array | string): string {
  const { raw } = new X509Certificate(certificate);
  return `sha256:${createHash("sha256").update(raw).digest("hex")}`;
}

/** The certificates of a PEM file one by one, in their order, each with a newline at its end; other blocks are left out. */
export function splitPemChain(pem: string): string[] {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
  return blocks.map((block) => `${block}\n`);
}
