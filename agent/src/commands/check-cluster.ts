import { checkCluster } from "../postgres/check/check.ts";
import type { Handler } from "./handler.ts";
import { required } from "./required.ts";

/** Connects to a cluster and looks whether it can be protected; runs what was confirmed to mend it. */
export const checkClusterCommand: Handler<"checkCluster"> = async (
  spec,
  { signal, secret, log, clientFiles: files },
) => {
  const connection = required(spec.connection, "connection");
  const password = secret(connection.passwordSecret);
  const { fixStatements, expectedSystemIdentifier } = spec;
  return {
    result: await checkCluster({ connection, password, files, fixStatements, expectedSystemIdentifier, log, signal }),
  };
};
