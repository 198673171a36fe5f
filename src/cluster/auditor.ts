import { readFileSync } from 'node:fs';
import { Auditor } from '../apiserver/audit/audit.ts';
import { type AuditLogOptions, auditLog } from '../apiserver/audit/log-backend.ts';
import { parseAuditPolicy } from '../apiserver/audit/policy.ts';
import { auditWebhook } from '../apiserver/audit/webhook-backend.ts';
import { loadKubeconfig } from '../client/kubeconfig.ts';
import { UserError } from './state.ts';

export interface AuditorOptions {
  policyFile: string;
  log?: AuditLogOptions;
  /** A kubeconfig. */
  webhookConfigFile?: string;
  onError(error: Error): void;
}

/** What flags and files say about auditing. UserError that names the file where one is wrong. */
export function openAuditor(o: AuditorOptions): Auditor {
  const read = <T>(file: string, parse: (file: string) => T): T => {
    try {
      return parse(file);
    } catch (error) {
      throw new UserError(`${file}: ${(error as Error).message}`);
    }
  };
  const policy = read(o.policyFile, (file) => parseAuditPolicy(readFileSync(file, 'utf8')));
  const webhook = o.webhookConfigFile && read(o.webhookConfigFile, (path) => loadKubeconfig({ path }).config);
  return new Auditor(policy, [
    ...(o.log ? [auditLog({ ...o.log, onError: o.onError })] : []),
    ...(webhook ? [auditWebhook({ config: webhook, onError: o.onError })] : []),
  ]);
}
