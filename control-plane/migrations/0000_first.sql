CREATE SEQUENCE "public"."fence_number" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1;--> statement-breakpoint
CREATE SEQUENCE "public"."operation_revision" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1;--> statement-breakpoint
CREATE SEQUENCE "public"."session_epoch" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1;--> statement-breakpoint
CREATE TABLE "audit_record" (
	"id" text PRIMARY KEY NOT NULL,
	"time" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"principal" text NOT NULL,
	"token_id" text,
	"action" text NOT NULL,
	"subject" text NOT NULL,
	"subject_name" text NOT NULL,
	"request" jsonb NOT NULL,
	"operation_id" text,
	"peer_address" text NOT NULL
);
--> statement-breakpoint
CREATE TABLE "request" (
	"principal_id" text NOT NULL,
	"request_id" text NOT NULL,
	"action" text NOT NULL,
	"resource_id" text NOT NULL,
	"create_time" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "request_principal_id_request_id_pk" PRIMARY KEY("principal_id","request_id")
);
--> statement-breakpoint
CREATE TABLE "authority" (
	"id" text PRIMARY KEY NOT NULL,
	"certificate_pem" text NOT NULL,
	"sealed_key" "bytea" NOT NULL,
	"create_time" timestamp (3) with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "backup" (
	"id" text PRIMARY KEY NOT NULL,
	"cluster_id" text NOT NULL,
	"kind" text NOT NULL,
	"complete" boolean NOT NULL,
	"default_databases" boolean NOT NULL,
	"start_time" timestamp (3) with time zone NOT NULL,
	"end_time" timestamp (3) with time zone NOT NULL,
	"create_time" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"database_bytes" bigint NOT NULL,
	"stored_bytes" bigint NOT NULL,
	"server_version_num" integer NOT NULL,
	"operation_id" text NOT NULL,
	"parent_id" text,
	"manifest" jsonb NOT NULL,
	"recipe" text NOT NULL,
	"version" integer DEFAULT 1 NOT NULL,
	CONSTRAINT "backup_kind_known" CHECK ("backup"."kind" in ('DUMP', 'FULL', 'INCREMENTAL')),
	CONSTRAINT "backup_parent_of_incremental" CHECK (("backup"."kind" = 'INCREMENTAL') = ("backup"."parent_id" is not null)),
	CONSTRAINT "backup_bytes" CHECK ("backup"."database_bytes" >= 0 and "backup"."stored_bytes" >= 0)
);
--> statement-breakpoint
CREATE TABLE "backup_copy" (
	"backup_id" text NOT NULL,
	"repository_id" text NOT NULL,
	"folder" text NOT NULL,
	"state" text NOT NULL,
	"manifest_sha256" text NOT NULL,
	"verify_time" timestamp (3) with time zone,
	"problem" text DEFAULT '' NOT NULL,
	"retention_reason" text DEFAULT '' NOT NULL,
	"pin_until" timestamp (3) with time zone,
	"pin_reason" text,
	CONSTRAINT "backup_copy_backup_id_repository_id_pk" PRIMARY KEY("backup_id","repository_id"),
	CONSTRAINT "backup_copy_state_known" CHECK ("backup_copy"."state" in ('STORED', 'DAMAGED', 'DELETING')),
	CONSTRAINT "backup_copy_digest_form" CHECK ("backup_copy"."manifest_sha256" ~ '^[0-9a-f]{64}$')
);
--> statement-breakpoint
CREATE TABLE "cluster" (
	"id" text PRIMARY KEY NOT NULL,
	"name" text NOT NULL,
	"labels" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"version" integer DEFAULT 1 NOT NULL,
	"create_time" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"update_time" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"reachable" boolean,
	"reachable_time" timestamp (3) with time zone,
	"unreachable_since" timestamp (3) with time zone,
	"problem" text DEFAULT '' NOT NULL,
	CONSTRAINT "cluster_name" UNIQUE("name"),
	CONSTRAINT "cluster_name_form" CHECK ("cluster"."name" ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
	CONSTRAINT "cluster_unreachable_since" CHECK (("cluster"."reachable" is false) = ("cluster"."unreachable_since" is not null))
);
--> statement-breakpoint
CREATE TABLE "cluster_database" (
	"cluster_id" text NOT NULL,
	"name" text NOT NULL,
	"size_bytes" bigint,
	"allow_connections" boolean NOT NULL,
	CONSTRAINT "cluster_database_cluster_id_name_pk" PRIMARY KEY("cluster_id","name")
);
--> statement-breakpoint
CREATE TABLE "cluster_incarnation" (
	"cluster_id" text NOT NULL,
	"system_identifier" text NOT NULL,
	"major" integer NOT NULL,
	"server_version_num" integer NOT NULL,
	"first_seen_time" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"last_seen_time" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "cluster_incarnation_cluster_id_system_identifier_major_pk" PRIMARY KEY("cluster_id","system_identifier","major")
);
--> statement-breakpoint
CREATE TABLE "cluster_instance" (
	"id" text PRIMARY KEY NOT NULL,
	"cluster_id" text NOT NULL,
	"host_id" text NOT NULL,
	"endpoint" jsonb NOT NULL,
	"role" text DEFAULT 'UNSPECIFIED' NOT NULL,
	"data_directory" text DEFAULT '' NOT NULL,
	"password_secret_id" text,
	CONSTRAINT "cluster_instance_role_known" CHECK ("cluster_instance"."role" in ('UNSPECIFIED', 'PRIMARY', 'STANDBY'))
);
--> statement-breakpoint
CREATE TABLE "certificate" (
	"fingerprint" text PRIMARY KEY NOT NULL,
	"host_id" text NOT NULL,
	"serial" text NOT NULL,
	"not_before" timestamp (3) with time zone NOT NULL,
	"not_after" timestamp (3) with time zone NOT NULL,
	"revoke_time" timestamp (3) with time zone
);
--> statement-breakpoint
CREATE TABLE "enrolment" (
	"id" text PRIMARY KEY NOT NULL,
	"host_id" text NOT NULL,
	"token_hash" "bytea" NOT NULL,
	"create_time" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"expire_time" timestamp (3) with time zone NOT NULL,
	"use_time" timestamp (3) with time zone,
	CONSTRAINT "enrolment_token_hash" UNIQUE("token_hash")
);
--> statement-breakpoint
CREATE TABLE "found_cluster" (
	"host_id" text NOT NULL,
	"data_directory" text NOT NULL,
	"port" integer NOT NULL,
	"socket_directory" text NOT NULL,
	"major" integer NOT NULL,
	"owner" text NOT NULL,
	"running" boolean NOT NULL,
	"system_identifier" text NOT NULL,
	"debian_name" text NOT NULL,
	CONSTRAINT "found_cluster_host_id_data_directory_port_pk" PRIMARY KEY("host_id","data_directory","port")
);
--> statement-breakpoint
CREATE TABLE "host" (
	"id" text PRIMARY KEY NOT NULL,
	"name" text NOT NULL,
	"labels" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"version" integer DEFAULT 1 NOT NULL,
	"create_time" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"update_time" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"state" text DEFAULT 'PENDING' NOT NULL,
	"state_time" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"agent_version" text DEFAULT '' NOT NULL,
	"capabilities" text[] DEFAULT '{}' NOT NULL,
	"machine_name" text DEFAULT '' NOT NULL,
	"boot_id" text,
	"session_epoch" bigint DEFAULT 0 NOT NULL,
	"last_seen_time" timestamp (3) with time zone,
	CONSTRAINT "host_name" UNIQUE("name"),
	CONSTRAINT "host_name_form" CHECK ("host"."name" ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
	CONSTRAINT "host_state_known" CHECK ("host"."state" in ('PENDING', 'CONNECTED', 'UNKNOWN', 'STOPPED'))
);
--> statement-breakpoint
CREATE TABLE "operation" (
	"id" text PRIMARY KEY NOT NULL,
	"kind" text NOT NULL,
	"spec" jsonb NOT NULL,
	"result" jsonb,
	"state" text DEFAULT 'QUEUED' NOT NULL,
	"state_reason" text DEFAULT '' NOT NULL,
	"failure" jsonb,
	"host_id" text,
	"cluster_id" text,
	"repository_id" text,
	"parent_id" text,
	"principal" text NOT NULL,
	"principal_id" text NOT NULL,
	"request_id" text,
	"request_digest" text,
	"fence_incarnation" bigint,
	"fence_number" bigint,
	"attempt" integer DEFAULT 0 NOT NULL,
	"command_id" text,
	"command" jsonb,
	"deadline" timestamp (3) with time zone,
	"progress" jsonb,
	"leavings" text[] DEFAULT '{}' NOT NULL,
	"revision" bigint DEFAULT nextval('operation_revision') NOT NULL,
	"create_time" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"start_time" timestamp (3) with time zone,
	"end_time" timestamp (3) with time zone,
	"retry_at" timestamp (3) with time zone,
	"cancel_time" timestamp (3) with time zone,
	"exclusive_key" text,
	CONSTRAINT "operation_state_known" CHECK ("operation"."state" in ('QUEUED', 'DISPATCHED', 'RUNNING', 'SUCCEEDED', 'FAILED', 'CANCELLED', 'CANCELLING', 'INDETERMINATE')),
	CONSTRAINT "operation_ended" CHECK (("operation"."state" in ('SUCCEEDED', 'FAILED', 'CANCELLED')) = ("operation"."end_time" is not null)),
	CONSTRAINT "operation_failed_says_why" CHECK ("operation"."state" <> 'FAILED' or "operation"."failure" is not null),
	CONSTRAINT "operation_fence_whole" CHECK (("operation"."fence_incarnation" is null) = ("operation"."fence_number" is null))
);
--> statement-breakpoint
CREATE TABLE "operation_attempt" (
	"operation_id" text NOT NULL,
	"number" integer NOT NULL,
	"start_time" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"end_time" timestamp (3) with time zone,
	"failure" jsonb,
	"settling" boolean DEFAULT false NOT NULL,
	CONSTRAINT "operation_attempt_operation_id_number_pk" PRIMARY KEY("operation_id","number")
);
--> statement-breakpoint
CREATE TABLE "operation_backup" (
	"operation_id" text NOT NULL,
	"backup_id" text NOT NULL,
	CONSTRAINT "operation_backup_operation_id_backup_id_pk" PRIMARY KEY("operation_id","backup_id")
);
--> statement-breakpoint
CREATE TABLE "operation_log" (
	"operation_id" text NOT NULL,
	"attempt" integer NOT NULL,
	"line" bigint NOT NULL,
	"time" timestamp (3) with time zone NOT NULL,
	"text" text NOT NULL,
	CONSTRAINT "operation_log_operation_id_attempt_line_pk" PRIMARY KEY("operation_id","attempt","line")
);
--> statement-breakpoint
CREATE TABLE "repository" (
	"id" text PRIMARY KEY NOT NULL,
	"name" text NOT NULL,
	"labels" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"version" integer DEFAULT 1 NOT NULL,
	"create_time" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"update_time" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"location" jsonb NOT NULL,
	"location_key" text NOT NULL,
	"home_host_id" text,
	"write_secret_id" text,
	"read_secret_id" text,
	"delete_secret_id" text,
	"reachable" boolean,
	"reachable_time" timestamp (3) with time zone,
	"unreachable_since" timestamp (3) with time zone,
	"problem" text DEFAULT '' NOT NULL,
	CONSTRAINT "repository_name" UNIQUE("name"),
	CONSTRAINT "repository_location_key" UNIQUE("location_key"),
	CONSTRAINT "repository_name_form" CHECK ("repository"."name" ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
	CONSTRAINT "repository_unreachable_since" CHECK (("repository"."reachable" is false) = ("repository"."unreachable_since" is not null))
);
--> statement-breakpoint
CREATE TABLE "secret" (
	"id" text PRIMARY KEY NOT NULL,
	"purpose" text NOT NULL,
	"sealed" "bytea" NOT NULL,
	"create_time" timestamp (3) with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "catalog_state" (
	"id" boolean PRIMARY KEY DEFAULT true NOT NULL,
	"incarnation" bigint NOT NULL,
	"create_time" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "catalog_state_one_row" CHECK ("catalog_state"."id")
);
--> statement-breakpoint
CREATE TABLE "token" (
	"id" text PRIMARY KEY NOT NULL,
	"name" text NOT NULL,
	"hash" "bytea" NOT NULL,
	"role" text NOT NULL,
	"create_time" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"expire_time" timestamp (3) with time zone,
	"revoke_time" timestamp (3) with time zone,
	"last_used_time" timestamp (3) with time zone,
	CONSTRAINT "token_hash" UNIQUE("hash"),
	CONSTRAINT "token_name_form" CHECK ("token"."name" ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
	CONSTRAINT "token_role_known" CHECK ("token"."role" in ('VIEWER', 'OPERATOR', 'ADMIN'))
);
--> statement-breakpoint
ALTER TABLE "backup" ADD CONSTRAINT "backup_cluster_id_cluster_id_fk" FOREIGN KEY ("cluster_id") REFERENCES "public"."cluster"("id") ON DELETE restrict ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "backup" ADD CONSTRAINT "backup_parent_id_backup_id_fk" FOREIGN KEY ("parent_id") REFERENCES "public"."backup"("id") ON DELETE restrict ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "backup_copy" ADD CONSTRAINT "backup_copy_backup_id_backup_id_fk" FOREIGN KEY ("backup_id") REFERENCES "public"."backup"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "backup_copy" ADD CONSTRAINT "backup_copy_repository_id_repository_id_fk" FOREIGN KEY ("repository_id") REFERENCES "public"."repository"("id") ON DELETE restrict ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "cluster_database" ADD CONSTRAINT "cluster_database_cluster_id_cluster_id_fk" FOREIGN KEY ("cluster_id") REFERENCES "public"."cluster"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "cluster_incarnation" ADD CONSTRAINT "cluster_incarnation_cluster_id_cluster_id_fk" FOREIGN KEY ("cluster_id") REFERENCES "public"."cluster"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "cluster_instance" ADD CONSTRAINT "cluster_instance_cluster_id_cluster_id_fk" FOREIGN KEY ("cluster_id") REFERENCES "public"."cluster"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "cluster_instance" ADD CONSTRAINT "cluster_instance_host_id_host_id_fk" FOREIGN KEY ("host_id") REFERENCES "public"."host"("id") ON DELETE restrict ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "cluster_instance" ADD CONSTRAINT "cluster_instance_password_secret_id_secret_id_fk" FOREIGN KEY ("password_secret_id") REFERENCES "public"."secret"("id") ON DELETE restrict ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "certificate" ADD CONSTRAINT "certificate_host_id_host_id_fk" FOREIGN KEY ("host_id") REFERENCES "public"."host"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "enrolment" ADD CONSTRAINT "enrolment_host_id_host_id_fk" FOREIGN KEY ("host_id") REFERENCES "public"."host"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "found_cluster" ADD CONSTRAINT "found_cluster_host_id_host_id_fk" FOREIGN KEY ("host_id") REFERENCES "public"."host"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "operation" ADD CONSTRAINT "operation_host_id_host_id_fk" FOREIGN KEY ("host_id") REFERENCES "public"."host"("id") ON DELETE set null ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "operation" ADD CONSTRAINT "operation_parent_id_operation_id_fk" FOREIGN KEY ("parent_id") REFERENCES "public"."operation"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "operation_attempt" ADD CONSTRAINT "operation_attempt_operation_id_operation_id_fk" FOREIGN KEY ("operation_id") REFERENCES "public"."operation"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "operation_backup" ADD CONSTRAINT "operation_backup_operation_id_operation_id_fk" FOREIGN KEY ("operation_id") REFERENCES "public"."operation"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "operation_backup" ADD CONSTRAINT "operation_backup_backup_id_backup_id_fk" FOREIGN KEY ("backup_id") REFERENCES "public"."backup"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "operation_log" ADD CONSTRAINT "operation_log_operation_id_operation_id_fk" FOREIGN KEY ("operation_id") REFERENCES "public"."operation"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "repository" ADD CONSTRAINT "repository_home_host_id_host_id_fk" FOREIGN KEY ("home_host_id") REFERENCES "public"."host"("id") ON DELETE restrict ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "repository" ADD CONSTRAINT "repository_write_secret_id_secret_id_fk" FOREIGN KEY ("write_secret_id") REFERENCES "public"."secret"("id") ON DELETE restrict ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "repository" ADD CONSTRAINT "repository_read_secret_id_secret_id_fk" FOREIGN KEY ("read_secret_id") REFERENCES "public"."secret"("id") ON DELETE restrict ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "repository" ADD CONSTRAINT "repository_delete_secret_id_secret_id_fk" FOREIGN KEY ("delete_secret_id") REFERENCES "public"."secret"("id") ON DELETE restrict ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "audit_record_time" ON "audit_record" USING btree ("time");--> statement-breakpoint
CREATE INDEX "backup_cluster_start" ON "backup" USING btree ("cluster_id","start_time");--> statement-breakpoint
CREATE INDEX "backup_copy_repository" ON "backup_copy" USING btree ("repository_id");--> statement-breakpoint
CREATE INDEX "cluster_instance_cluster" ON "cluster_instance" USING btree ("cluster_id");--> statement-breakpoint
CREATE INDEX "cluster_instance_host" ON "cluster_instance" USING btree ("host_id");--> statement-breakpoint
CREATE INDEX "certificate_host" ON "certificate" USING btree ("host_id");--> statement-breakpoint
CREATE INDEX "enrolment_host" ON "enrolment" USING btree ("host_id");--> statement-breakpoint
CREATE UNIQUE INDEX "operation_request" ON "operation" USING btree ("principal_id","request_id") WHERE "operation"."request_id" is not null;--> statement-breakpoint
CREATE UNIQUE INDEX "operation_revision_unique" ON "operation" USING btree ("revision");--> statement-breakpoint
CREATE UNIQUE INDEX "operation_exclusive" ON "operation" USING btree ("exclusive_key") WHERE "operation"."end_time" is null;--> statement-breakpoint
CREATE INDEX "operation_host_active" ON "operation" USING btree ("host_id","state") WHERE "operation"."end_time" is null;--> statement-breakpoint
CREATE INDEX "operation_cluster" ON "operation" USING btree ("cluster_id","id");--> statement-breakpoint
CREATE INDEX "operation_backup_backup" ON "operation_backup" USING btree ("backup_id");--> statement-breakpoint
CREATE INDEX "repository_home_host" ON "repository" USING btree ("home_host_id");--> statement-breakpoint
CREATE UNIQUE INDEX "token_name" ON "token" USING btree ("name") WHERE "token"."revoke_time" is null;