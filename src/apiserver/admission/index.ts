import { mutatingPolicies } from '../extensions/policies/mutating.ts';
import { validatingPolicies } from '../extensions/policies/validating.ts';
import { mutatingWebhooks, validatingWebhooks } from '../extensions/webhooks/admission.ts';
import { rbacEscalation } from '../authz/escalation.ts';
import {
  certificateApproval,
  certificateRequester,
  certificateSigning,
  certificateSubjectRestriction,
  podCertificateSigning,
} from './certificates.ts';
import type { AdmissionPlugin } from './chain.ts';
import { deviceAdminAccess } from './device-admin-access.ts';
import { limitRanger } from './limit-ranger.ts';
import { namespaceLifecycle } from './namespace-lifecycle.ts';
import { nodeRestriction, taintNodesByCondition } from './nodes.ts';
import { defaultTolerationSeconds, priority } from './pod-defaults.ts';
import { podSecurity } from './pod-security.ts';
import { resourceQuota } from './resource-quota.ts';
import { runtimeClass } from './runtime-class.ts';
import { serviceAccountAdmission } from './service-account.ts';
import { defaultStorageClass, storageObjectInUseProtection } from './storage-defaults.ts';

/** The built-in plugins, in upstream's order. */
export const builtinAdmission: AdmissionPlugin[] = [
  namespaceLifecycle,
  limitRanger,
  serviceAccountAdmission,
  nodeRestriction,
  taintNodesByCondition,
  podSecurity,
  priority,
  defaultTolerationSeconds,
  runtimeClass,
  defaultStorageClass,
  storageObjectInUseProtection,
  certificateRequester,
  certificateApproval,
  certificateSigning,
  podCertificateSigning,
  certificateSubjectRestriction,
  rbacEscalation,
  deviceAdminAccess,
  mutatingPolicies,
  mutatingWebhooks,
  validatingPolicies,
  validatingWebhooks,
  resourceQuota,
];
