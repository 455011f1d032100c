import { createSign, generateKeyPairSync } from "node:crypto";

/** A private key (PKCS #8, PEM) and the request for its certificate (PKCS #10, PEM). */
export interface CertificateRequest {
  readonly privateKeyPem: string;
  readonly requestPem: string;
}

const tag = { integer: 0x02, bitString: 0x03, oid: 0x06, utf8String: 0x0c, sequence: 0x30, set: 0x31, context0: 0xa0 };
/** 2.5.4.3, commonName. */
const commonName = Buffer.from("550403", "hex");
/** 1.2.840.10045.4.3.2, ecdsa-with-SHA256 (RFC 5758). */
const ecdsaWithSha256 = Buffer.from("2a8648ce3d040302", "hex");

/** Makes a new P-256 key and a request for it; `name` is its subject's common name (RFC 2986). */
export function makeCertificateRequest(name: string): CertificateRequest {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const attribute = der(tag.sequence, der(tag.oid, commonName), der(tag.utf8String, Buffer.from(name)));
  const info = der(
    tag.sequence,
    der(tag.integer, Buffer.from([0])),
    der(tag.sequence, der(tag.set, attribute)),
    publicKey.export({ type: "spki", format: "der" }),
    der(tag.context0),
  );
  const signature = createSign("sha256").update(info).sign(privateKey);
  const request = der(
    tag.sequence,
    info,
    der(tag.sequence, der(tag.oid, ecdsaWithSha256)),
    // The first byte counts the unused bits of the last one.
    der(tag.bitString, Buffer.from([0]), signature),
  );
  return {
    privateKeyPem: privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
    requestPem: pem("CERTIFICATE REQUEST", request),
  };
}

/** The bytes as a PEM block. */
export function pem(label: string, bytes: Buffer): string {
  const lines = bytes.toString("base64").match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join("\n")}\n-----END ${label}-----\n`;
}

function der(type: number, ...contents: readonly Buffer[]): Buffer {
  const content = Buffer.concat(contents);
  return Buffer.concat([Buffer.from([type, ...derLength(content.length)]), content]);
}

function derLength(length: number): number[] {
  if (length < 0x80) return [length];
  const bytes: number[] = [];
  for (let rest = length; rest > 0; rest >>>= 8) bytes.unshift(rest & 0xff);
  return [0x80 | bytes.length, ...bytes];
}
