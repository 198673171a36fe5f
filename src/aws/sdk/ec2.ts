export {
  DescribeInstancesCommand,
  EC2Client,
  GetConsoleOutputCommand,
  paginateDescribeInstances,
  paginateDescribeSecurityGroups,
  paginateDescribeVolumes,
  TerminateInstancesCommand,
} from '@aws-sdk/client-ec2';
