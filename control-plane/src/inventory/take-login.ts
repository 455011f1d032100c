import { clone } from "@bufbuild/protobuf";
import { type Endpoint, EndpointSchema } from "@coppice/proto/gen/coppice/common/v1/connection";

/** How one more server of a cluster is logged in to. */
export interface TakenLogin {
  /** What was said of it, and what is taken over. */
  readonly endpoint: Endpoint;
  /** Whether the stored password may go there: it is of the same role, and goes by no less safe a way. */
  readonly takesPassword: boolean;
}

const fromWeakest = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
const roleOf = ({ user }: Endpoint) => user || "postgres";
const isSocket = ({ address }: Endpoint) => address.case === "socketDirectory";

/** The least that libpq's sslmode stands for there. What a service file says is not known: it may be the most. */
function safetyOf({ sslmode, sslrootcert, service }: Endpoint): number {
  const mode = sslmode || (service === "" ? "prefer" : "verify-full");
  return fromWeakest.indexOf(mode === "require" && sslrootcert !== "" ? "verify-ca" : mode);
}

/**
 * What a new server takes over of how the main one is logged in to, where it is not told: they have the same roles,
 * passwords and databases. Who comes through a socket is a role by the name of a user of the system, unless the main one is
 * reached so, too; and what a service file says of a role is that host's own.
 */
export function takeLogin(told: Endpoint, main: Endpoint): TakenLogin {
  const endpoint = clone(EndpointSchema, told);
  if (told.service !== "" || (main.service !== "" && main.user === "")) return { endpoint, takesPassword: false };
  endpoint.maintenanceDatabase ||= main.maintenanceDatabase;
  if (isSocket(told) && !isSocket(main)) return { endpoint, takesPassword: false };
  endpoint.user ||= main.user;
  if (told.sslmode === "") {
    endpoint.sslmode = main.sslmode;
    endpoint.sslrootcert ||= main.sslrootcert;
  }
  const isSame = roleOf(endpoint) === roleOf(main);
  return { endpoint, takesPassword: isSame && safetyOf(endpoint) >= safetyOf(main) };
}
