import type { Policy } from '@aws-sdk/client-iam';

/**
 * Policies that AWS itself has, as far as clusters attach them, with their paths. A policy of another name cannot be attached.
 * Their documents are AWS's and not kept here, since nothing is decided by them.
 */
const names = [
  'AdministratorAccess',
  'AmazonEC2ContainerRegistryFullAccess',
  'AmazonEC2ContainerRegistryPowerUser',
  'AmazonEC2ContainerRegistryPullOnly',
  'AmazonEC2ContainerRegistryReadOnly',
  'AmazonEC2FullAccess',
  'AmazonEC2ReadOnlyAccess',
  'AmazonEKSBlockStoragePolicy',
  'AmazonEKSClusterPolicy',
  'AmazonEKSComputePolicy',
  'AmazonEKSLoadBalancingPolicy',
  'AmazonEKSNetworkingPolicy',
  'AmazonEKSServicePolicy',
  'AmazonEKSVPCResourceController',
  'AmazonEKSWorkerNodeMinimalPolicy',
  'AmazonEKSWorkerNodePolicy',
  'AmazonEKS_CNI_Policy',
  'AmazonS3FullAccess',
  'AmazonS3ReadOnlyAccess',
  'AmazonSSMFullAccess',
  'AmazonSSMManagedInstanceCore',
  'AmazonSSMReadOnlyAccess',
  'AutoScalingFullAccess',
  'CloudWatchAgentServerPolicy',
  'ElasticLoadBalancingFullAccess',
  'ElasticLoadBalancingReadOnly',
  'IAMFullAccess',
  'IAMReadOnlyAccess',
  'PowerUserAccess',
  'ReadOnlyAccess',
  'SecurityAudit',
  'service-role/AmazonEBSCSIDriverPolicy',
  'service-role/AmazonEC2ContainerServiceforEC2Role',
  'service-role/AmazonEFSCSIDriverPolicy',
];

const prefix = 'arn:aws:iam::aws:policy/';

type ManagedPolicy = Policy & { Arn: string; PolicyName: string };

function view(name: string): ManagedPolicy {
  const slash = name.lastIndexOf('/');
  return {
    PolicyName: name.slice(slash + 1),
    Arn: prefix + name,
    Path: `/${name.slice(0, slash + 1)}`,
    DefaultVersionId: 'v1',
    PermissionsBoundaryUsageCount: 0,
    IsAttachable: true,
  };
}

const byArn = new Map(names.map(view).map((policy) => [policy.Arn, policy]));

export const managedPolicies = (): ManagedPolicy[] => [...byArn.values()];
export const managedPolicy = (arn: string): ManagedPolicy | undefined => byArn.get(arn);
