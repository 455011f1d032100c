import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { DescService } from "@bufbuild/protobuf";
import { type Client, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { openLog } from "@coppice/proto/kit/log";
import { type App, openApp } from "../../control-plane/src/app.ts";
import { type Config, loadConfig } from "../../control-plane/src/config.ts";

/** A control plane in this process, on an embedded catalog in a folder of its own. */
export interface TestControlPlane extends AsyncDisposable {
  readonly app: App;
  readonly config: Config;
  /** Value of the first admin token. */
  readonly adminToken: string;
  /** Every line that was logged so far. */
  readonly logLines: readonly string[];
  /** A client with the admin's token, or the given one. */
  client<Service extends DescService>(service: Service, token?: string): Client<Service>;
}

/** A folder that the embedded server's user can pass through. */
export async function makeDataFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "coppice-cp-"));
  await chmod(folder, 0o711);
  return folder;
}

/** Starts one; `env` adds to its settings, and a connection of its catalog may owe an answer for `catalogSilentMs`. */
export async function openTestControlPlane(
  env: Record<string, string> = {},
  { catalogSilentMs }: { catalogSilentMs?: number } = {},
): Promise<TestControlPlane> {
  await using opening = new AsyncDisposableStack();
  const dataDir = await makeDataFolder();
  opening.defer(() => rm(dataDir, { recursive: true, force: true }));
  const config = loadConfig({
    options: { dataDir, listen: "127.0.0.1:0" },
    env: { COPPICE_CONFIG: "/dev/null", COPPICE_HEARTBEAT_INTERVAL: "200ms", ...env },
  });
  const logLines: string[] = [];
  const log = openLog({ level: "debug", name: "control-plane", to: { write: (line) => void logLines.push(line) } });
  const app = opening.use(await openApp(config, { log, signal: new AbortController().signal, catalogSilentMs }));
  if (app.bootstrap === undefined || !("value" in app.bootstrap)) throw new Error("no first token was made");
  const adminToken = app.bootstrap.value;
  const resources = opening.move();
  return {
    app,
    config,
    adminToken,
    logLines,
    client: (service, token = adminToken) => {
      const authorize: Interceptor = (next) => (request) => {
        if (token !== "") request.header.set("authorization", `Bearer ${token}`);
        return next(request);
      };
      const transport = createGrpcTransport({
        baseUrl: app.address,
        nodeOptions: { ca: app.caPem },
        interceptors: [authorize],
        defaultTimeoutMs: 20_000,
      });
      return createClient(service, transport);
    },
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}
