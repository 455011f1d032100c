// The library below fills a registry by decorators; the polyfill they need is imported for its effect alone.
// oxlint-disable-next-line import/no-unassigned-import
import "reflect-metadata";
import { createPublicKey, randomBytes, webcrypto } from "node:crypto";
import { isIP } from "node:net";
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  type JsonGeneralNames,
  KeyUsageFlags,
  KeyUsagesExtension,
  PemConverter,
  Pkcs10CertificateRequest,
  type PublicKey,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from "@peculiar/x509";
import { fail } from "@coppice/proto/kit/failure";
import { certificateFingerprint } from "@coppice/proto/kit/tls";

/** The root certificate with its key. */
export interface Root {
  readonly certificatePem: string;
  readonly privateKey: webcrypto.CryptoKey;
}

/** A certificate as its holder shows it. */
export interface IssuedCertificate {
  /** Leaf first, then the root: who knows only the root's fingerprint finds it there. */
  readonly chainPem: string;
  /** `sha256:` and hex, of the leaf. */
  readonly fingerprint: string;
  /** Hex. */
  readonly serial: string;
  readonly notBefore: Date;
  readonly notAfter: Date;
}

const dayMs = 86_400_000;
const rootDays = 20 * 365;
const serverDays = 397;
const clientDays = 30;
const keyAlgorithm = { name: "ECDSA", namedCurve: "P-256" };
const signingAlgorithm = { name: "ECDSA", hash: "SHA-256" };

/** Makes a root: EC P-256, for certificates alone. */
export async function makeRoot(now: Date): Promise<Root> {
  const keys = await webcrypto.subtle.generateKey(keyAlgorithm, true, ["sign", "verify"]);
  const certificate = await X509CertificateGenerator.createSelfSigned(
    {
      serialNumber: newSerial(),
      name: "CN=Coppice",
      ...validity(now, rootDays),
      keys,
      signingAlgorithm,
      extensions: [
        new BasicConstraintsExtension(true, 0, true),
        new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
        await SubjectKeyIdentifierExtension.create(keys.publicKey, false, webcrypto),
      ],
    },
    webcrypto,
  );
  return { certificatePem: `${certificate.toString("pem")}\n`, privateKey: keys.privateKey };
}

/** The root out of its certificate and its key (PKCS #8, DER). */
export async function parseRoot(certificatePem: string, key: Uint8Array): Promise<Root> {
  const privateKey = await webcrypto.subtle.importKey("pkcs8", new Uint8Array(key), keyAlgorithm, false, ["sign"]);
  return { certificatePem, privateKey };
}

/** A certificate for the control plane itself, with a new key. `names` are DNS names and IP addresses. */
export async function issueServerCertificate(
  root: Root,
  names: readonly string[],
  now: Date,
): Promise<{ readonly privateKeyPem: string; readonly certificateChainPem: string }> {
  const keys = await webcrypto.subtle.generateKey(keyAlgorithm, true, ["sign", "verify"]);
  const { chainPem } = await issue(root, {
    publicKey: keys.publicKey,
    subject: "CN=Coppice control plane",
    names: [...new Set(names)].map((value) => ({ type: isIP(value) === 0 ? "dns" : "ip", value })),
    usage: ExtendedKeyUsage.serverAuth,
    ...validity(now, serverDays),
  });
  const privateKey = await webcrypto.subtle.exportKey("pkcs8", keys.privateKey);
  return { privateKeyPem: `${PemConverter.encode(privateKey, "PRIVATE KEY")}\n`, certificateChainPem: chainPem };
}

/** A certificate for the agent of a host, over the key of its request, of which nothing else is taken over. */
export async function issueClientCertificate(
  root: Root,
  { publicKey, hostId, now }: { publicKey: PublicKey; hostId: string; now: Date },
): Promise<IssuedCertificate> {
  return await issue(root, {
    publicKey,
    subject: `CN=${hostId}`,
    names: [{ type: "url", value: `coppice:host:${hostId}` }],
    usage: ExtendedKeyUsage.clientAuth,
    ...validity(now, clientDays),
  });
}

/** The key of a request that was signed with it. Errors: INVALID_FIELD. */
export async function readRequest(csrPem: string): Promise<PublicKey> {
  const refuse = (description: string, cause?: unknown): never =>
    fail("INVALID_FIELD", `the certificate request ${description}`, {
      fields: [{ field: "csr_pem", description, expected: "a PKCS #10 request (PEM) over an EC P-256 key" }],
      cause,
    });
  let request: Pkcs10CertificateRequest;
  try {
    request = new Pkcs10CertificateRequest(csrPem);
  } catch (error) {
    return refuse("cannot be read", error);
  }
  // The library's own types for this come from the DOM's, which are not ours.
  const key = createPublicKey({ key: Buffer.from(request.publicKey.rawData), format: "der", type: "spki" });
  if (key.asymmetricKeyDetails?.namedCurve !== "prime256v1") refuse("is not over an EC P-256 key");
  const isSigned = await request
    .verify(webcrypto)
    .catch((error: unknown) => refuse("has no readable signature", error));
  if (!isSigned) refuse("is not signed by its key");
  return request.publicKey;
}

interface Leaf {
  readonly publicKey: PublicKey | webcrypto.CryptoKey;
  readonly subject: string;
  readonly names: JsonGeneralNames;
  readonly usage: ExtendedKeyUsage;
  readonly notBefore: Date;
  readonly notAfter: Date;
}

async function issue(root: Root, leaf: Leaf): Promise<IssuedCertificate> {
  const { publicKey, subject, names, usage, notBefore, notAfter } = leaf;
  const issuer = new X509Certificate(root.certificatePem);
  const serial = newSerial();
  const certificate = await X509CertificateGenerator.create(
    {
      serialNumber: serial,
      subject,
      issuer: issuer.subject,
      notBefore,
      notAfter,
      publicKey,
      signingKey: root.privateKey,
      signingAlgorithm,
      extensions: [
        new BasicConstraintsExtension(false, undefined, true),
        new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
        new ExtendedKeyUsageExtension([usage]),
        new SubjectAlternativeNameExtension(names),
        await AuthorityKeyIdentifierExtension.create(issuer, false, webcrypto),
      ],
    },
    webcrypto,
  );
  const pem = `${certificate.toString("pem")}\n`;
  return {
    chainPem: pem + root.certificatePem,
    fingerprint: certificateFingerprint(pem),
    serial,
    notBefore,
    notAfter,
  };
}

/** Clocks of hosts differ: what is issued now is already valid there. */
function validity(now: Date, days: number): { notBefore: Date; notAfter: Date } {
  const wholeSecond = Math.floor(now.getTime() / 1000) * 1000;
  return { notBefore: new Date(wholeSecond - dayMs), notAfter: new Date(wholeSecond + days * dayMs) };
}

/** 127 random bits, positive: RFC 5280 wants serial numbers that are unique and above zero. */
function newSerial(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40;
  return bytes.toString("hex");
}
