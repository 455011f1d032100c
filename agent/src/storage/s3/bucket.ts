import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import { getCACertificates } from "node:tls";
import { S3Client, type S3ClientConfig } from "@aws-sdk/client-s3";
import type { S3Location } from "@coppice/proto/gen/coppice/common/v1/location";
import type { S3Credential, StorageCredential } from "@coppice/proto/gen/coppice/common/v1/storage_credential";
import { fail } from "@coppice/proto/kit/failure";
import { NodeHttpHandler } from "@smithy/node-http-handler";
import type { StorageCredentials } from "../access.ts";
import type { Patience } from "./patience.ts";

/** What a request is for, which decides whose key signs it. */
export type Purpose = "write" | "read" | "delete";

/** A prefix in a bucket and the clients that reach it. */
export interface Bucket extends Disposable {
  readonly location: S3Location;
  /** Address for messages: s3://bucket/prefix. */
  readonly name: string;
  /** Beginning of every key in the bucket: "" or ending in `/`. */
  readonly prefix: string;
  readonly region: string;
  readonly clients: Readonly<Record<Purpose, S3Client>>;
  readonly patience: Patience;
  /** Whether bodies travel unencrypted, so that their signature has to cover them. */
  readonly signsBodies: boolean;
  /** What the last answer said of the server's clock: milliseconds that it is ahead. */
  readonly clock: { aheadMs: number | undefined };
  /** For what the server has accepted a key. */
  readonly accepted: Set<Purpose>;
}

const silent = { trace() {}, debug() {}, info() {}, warn() {}, error() {} };

/** Makes the clients of a bucket; no request is sent yet. */
export async function openBucket(
  location: S3Location,
  credentials: StorageCredentials,
  patience: Patience,
): Promise<Bucket> {
  const clock: Bucket["clock"] = { aheadMs: undefined };
  const agents = openAgents(location);
  const region = await resolveRegion(location);
  const { write, read = write, delete: remove = write } = credentials;
  const open = (credential: StorageCredential | undefined) =>
    openClient({ location, region, credential: s3Credential(credential), patience, clock, agents });
  const writer = open(write);
  const clients = {
    write: writer,
    read: read === write ? writer : open(read),
    delete: remove === write ? writer : open(remove),
  };
  return {
    location,
    name: `s3://${location.bucket}${location.prefix === "" ? "" : `/${location.prefix}`}`,
    prefix: location.prefix === "" ? "" : `${location.prefix}/`,
    region,
    clients,
    patience,
    signsBodies: location.endpoint.startsWith("http:"),
    clock,
    accepted: new Set(),
    [Symbol.dispose]() {
      for (const client of new Set(Object.values(clients))) client.destroy();
      for (const agent of Object.values(agents)) agent.destroy();
    },
  };
}

function openAgents({ caPem }: S3Location) {
  const pool = { keepAlive: true, maxSockets: 64 };
  const ca = caPem === "" ? [...getCACertificates("default"), ...getCACertificates("system")] : [caPem];
  return { httpAgent: new HttpAgent(pool), httpsAgent: new HttpsAgent({ ...pool, ca }) };
}

async function resolveRegion({ region, profile }: S3Location): Promise<string> {
  if (region !== "") return region;
  const host = new S3Client({ logger: silent, ...(profile === "" ? {} : { profile }) });
  // It fails where the host's configuration names none; there is nothing else that it could fail of.
  return host.config.region().catch(() => "us-east-1");
}

interface ClientParts {
  readonly location: S3Location;
  readonly region: string;
  readonly credential: S3Credential | undefined;
  readonly patience: Patience;
  readonly clock: Bucket["clock"];
  readonly agents: { readonly httpAgent: HttpAgent; readonly httpsAgent: HttpsAgent };
}

function openClient({ location, region, credential, patience, clock, agents }: ClientParts): S3Client {
  const { endpoint, profile, pathStyle = endpoint !== "" } = location;
  const { connectMs: connectionTimeout, idleMs: socketTimeout } = patience;
  const config: S3ClientConfig = {
    region,
    forcePathStyle: pathStyle,
    // The SDK would repeat bodies that it cannot, and wait where we have our own bounds.
    maxAttempts: 1,
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
    expectContinueHeader: false,
    requestHandler: new NodeHttpHandler({ ...agents, connectionTimeout, socketTimeout, logger: silent }),
    logger: silent,
    ...(endpoint === "" ? {} : { endpoint }),
    ...(credential ? { credentials: identityOf(credential) } : profile === "" ? {} : { profile }),
  };
  const client = new S3Client(config);
  client.middlewareStack.add(
    (next) => async (args) => {
      const result = await next(args);
      const date = Date.parse(headerOf(result.response, "date"));
      if (!Number.isNaN(date)) clock.aheadMs = date - Date.now();
      return result;
    },
    { step: "deserialize", priority: "low", name: "hearClock" },
  );
  return client;
}

function identityOf({ accessKeyId, secretAccessKey, sessionToken }: S3Credential) {
  return { accessKeyId, secretAccessKey, ...(sessionToken === "" ? {} : { sessionToken }) };
}

function headerOf(response: unknown, name: string): string {
  const headers: unknown = typeof response === "object" && response ? Reflect.get(response, "headers") : undefined;
  const value: unknown = typeof headers === "object" && headers ? Reflect.get(headers, name) : undefined;
  return typeof value === "string" ? value : "";
}

function s3Credential(credential: StorageCredential | undefined): S3Credential | undefined {
  if (credential === undefined) return undefined;
  if (credential.kind.case === "s3") return credential.kind.value;
  return fail("REPOSITORY_CREDENTIALS_REFUSED", "the repository is a bucket, and its credential is none of S3");
}
