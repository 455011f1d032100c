import { once } from "node:events";
import { createServer } from "node:http";
import type { CephUser } from "./cluster.ts";

/** A server that hands out keys as clouds do it to a machine or a container. */
export interface HostCredentials extends AsyncDisposable {
  readonly endpoint: string;
  /** What was asked of it, "METHOD path", in order. */
  readonly requests: string[];
}

const tokenHeader = "x-aws-ec2-metadata-token";
const sessionToken = "of-this-boot";

/**
 * Serves a user's keys on 127.0.0.1: below /latest as an instance's metadata (version 2: nothing without a token that
 * was asked for by PUT), at /role as a container's credentials, for those who know `containerToken`.
 */
export async function serveHostCredentials(user: CephUser, containerToken: string): Promise<HostCredentials> {
  const requests: string[] = [];
  const keys = () =>
    JSON.stringify({
      Code: "Success",
      Type: "AWS-HMAC",
      LastUpdated: new Date().toISOString(),
      AccessKeyId: user.accessKeyId,
      SecretAccessKey: user.secretAccessKey,
      Token: "",
      Expiration: new Date(Date.now() + 3_600_000).toISOString(),
    });
  const answer = (name: string, headers: NodeJS.Dict<string | string[]>): [status: number, body: string] => {
    if (name === "PUT /latest/api/token") {
      return headers[`${tokenHeader}-ttl-seconds`] === undefined ? [400, ""] : [200, sessionToken];
    }
    if (name === "GET /role") return headers["authorization"] === containerToken ? [200, keys()] : [403, ""];
    if (headers[tokenHeader] !== sessionToken) return [401, ""];
    if (name === "GET /latest/meta-data/iam/security-credentials/") return [200, "backup-host"];
    return name === "GET /latest/meta-data/iam/security-credentials/backup-host" ? [200, keys()] : [404, ""];
  };
  const server = createServer(({ method, url, headers }, response) => {
    const name = `${method} ${url}`;
    requests.push(name);
    const [status, body] = answer(name, headers);
    response.writeHead(status).end(body);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("a TCP server has no port");
  return {
    endpoint: `http://127.0.0.1:${address.port}`,
    requests,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}
