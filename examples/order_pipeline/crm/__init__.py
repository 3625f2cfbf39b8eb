"""The CRM: approves priced orders for manufacturing, and closes shipped ones."""
