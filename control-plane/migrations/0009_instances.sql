ALTER TABLE "cluster" DROP CONSTRAINT "cluster_unreachable_since";--> statement-breakpoint
ALTER TABLE "cluster_instance" ADD COLUMN "reachable" boolean;--> statement-breakpoint
ALTER TABLE "cluster_instance" ADD COLUMN "reachable_time" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "cluster_instance" ADD COLUMN "unreachable_since" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "cluster_instance" ADD COLUMN "problem" text DEFAULT '' NOT NULL;--> statement-breakpoint
UPDATE "cluster_instance" SET "reachable" = "cluster"."reachable", "reachable_time" = "cluster"."reachable_time", "unreachable_since" = "cluster"."unreachable_since", "problem" = "cluster"."problem" FROM "cluster" WHERE "cluster"."id" = "cluster_instance"."cluster_id";--> statement-breakpoint
ALTER TABLE "cluster" DROP COLUMN "reachable";--> statement-breakpoint
ALTER TABLE "cluster" DROP COLUMN "reachable_time";--> statement-breakpoint
ALTER TABLE "cluster" DROP COLUMN "unreachable_since";--> statement-breakpoint
ALTER TABLE "cluster" DROP COLUMN "problem";--> statement-breakpoint
ALTER TABLE "cluster_instance" ADD CONSTRAINT "cluster_instance_unreachable_since" CHECK (("cluster_instance"."reachable" is false) = ("cluster_instance"."unreachable_since" is not null));