import { createPrivateKey, X509Certificate } from "node:crypto";
import { isFailure } from "@coppice/proto/kit/failure";
import { certificateFingerprint, splitPemChain } from "@coppice/proto/kit/tls";
import { beforeAll, expect, test } from "vitest";
import { issueClientCertificate, issueServerCertificate, makeRoot, readRequest, type Root } from "./certificates.ts";

const now = new Date("2026-11-20T12:00:00.700Z");
// Made by `openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:… -subj /CN=db7`.
const p256 = `-----BEGIN CERTIFICATE REQUEST-----
MIHIMHACAQAwDjEMMAoGA1UEAwwDZGI3MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcD
QgAEN8lKlBeS1fHr1kYMBaaxqMxKcsJeXpOSATn0JbgAWfTASDtbD/P97+bQ5UNG
/gZXPQ/lsOiwfPMH83AkVpbXl6AAMAoGCCqGSM49BAMCA0gAMEUCIDngCgXDBrH8
2sl7o3hHtpKPlM2pFcwV60qsVWThhq6wAiEA/MMnzY/rKmaOy6F6yek3RX+CJYHY
Qfl4MXetziPtF50=
-----END CERTIFICATE REQUEST-----
`;
const p384 = `-----BEGIN CERTIFICATE REQUEST-----
MIIBBTCBjQIBADAOMQwwCgYDVQQDDANkYjcwdjAQBgcqhkjOPQIBBgUrgQQAIgNi
AASBgAXUNQ6RooRlAySNOGF9nwa9hrXn3l/YjFwxiMT823fO29e0nQvz/+C87oEj
03eWGcLx0IIs/jiJTFN7Gn7+XB9AkWkMf6tIDWJC9f4o5QPUJbRtNSuA7e3WRq14
U82gADAKBggqhkjOPQQDAgNnADBkAjBuJtQFE+BTmLxvQhsw8QY+PXSKrlAIG6dX
hXcSBsP5KdnK6l49pipgocCYj3CjYmUCMHJWL/SwoybkUbFEoP+rL2dVwcploWWp
EdPlsXxpQUfe9shQfviZjZmJ/cf3phZClA==
-----END CERTIFICATE REQUEST-----
`;
let root: Root;

beforeAll(async () => {
  root = await makeRoot(now);
});

test("a root signs certificates and nothing that signs further ones", () => {
  const certificate = new X509Certificate(root.certificatePem);
  expect(certificate.ca).toBe(true);
  expect(certificate.verify(certificate.publicKey)).toBe(true);
});

test("the server's chain is its certificate and the root, for every name and address", async () => {
  const { privateKeyPem, certificateChainPem } = await issueServerCertificate(
    root,
    ["localhost", "127.0.0.1", "::1", "db.example.org", "localhost"],
    now,
  );
  const [leafPem, rootPem] = splitPemChain(certificateChainPem);
  const leaf = new X509Certificate(leafPem ?? "");
  expect(rootPem).toBe(root.certificatePem);
  expect(leaf.checkIssued(new X509Certificate(root.certificatePem))).toBe(true);
  expect(leaf.verify(new X509Certificate(root.certificatePem).publicKey)).toBe(true);
  expect(leaf.checkPrivateKey(createPrivateKey(privateKeyPem))).toBe(true);
  expect(leaf.checkHost("db.example.org")).toBe("db.example.org");
  expect(leaf.checkIP("127.0.0.1")).toBe("127.0.0.1");
  expect(leaf.checkIP("::1")).toBe("::1");
  expect(leaf.ca).toBe(false);
});

test("an agent's certificate names its host, is for clients alone, and valid from a day ago for 30 days", async () => {
  const publicKey = await readRequest(p256);
  const issued = await issueClientCertificate(root, { publicKey, hostId: "hst_x", now });
  const leaf = new X509Certificate(splitPemChain(issued.chainPem)[0] ?? "");
  expect(leaf.subjectAltName).toBe("URI:coppice:host:hst_x");
  expect(leaf.subject).toBe("CN=hst_x");
  expect(leaf.keyUsage).toEqual(["1.3.6.1.5.5.7.3.2"]);
  expect(leaf.validFromDate.toISOString()).toBe("2026-11-19T12:00:00.000Z");
  expect(leaf.validToDate.toISOString()).toBe("2026-12-20T12:00:00.000Z");
  expect(issued.notAfter).toEqual(leaf.validToDate);
  expect(certificateFingerprint(leaf.raw)).toBe(issued.fingerprint);
  expect(leaf.serialNumber.toLowerCase()).toBe(issued.serial);
});

test("two certificates have different serial numbers", async () => {
  const publicKey = await readRequest(p256);
  const [one, two] = [
    await issueClientCertificate(root, { publicKey, hostId: "hst_x", now }),
    await issueClientCertificate(root, { publicKey, hostId: "hst_x", now }),
  ];
  expect(one.serial).not.toBe(two.serial);
});

test.for([
  ["no PEM", "nonsense"],
  ["a damaged request", p256.replace("MIH", "MAA")],
  ["a request whose signature is another one's", p256.replace(/.{12}(?==*\n-----END)/, "AAAAAAAAAAAA")],
  ["another curve", p384],
  ["nothing", ""],
])("%s is refused as an invalid field", async ([, csr]) => {
  const error: unknown = await readRequest(csr ?? "").catch((caught: unknown) => caught);
  expect(isFailure(error, "INVALID_FIELD") && error.fields[0]?.field).toBe("csr_pem");
});
