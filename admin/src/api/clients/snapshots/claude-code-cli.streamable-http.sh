claude mcp add --transport http gateway 'https://gateway.example/mcp/http' --header "Authorization: Bearer $MPG_KEY"
